# Evaluates one line of Ruby after the other and answers each with one line of JSON.
ANSWERS = $stdout.dup
ANSWERS.sync = true
$stdout.reopen($stderr) # what libraries say is no answer
require_relative "rails"
while (line = $stdin.gets)
  begin
    ANSWERS.puts JSON.generate("result" => eval(line))
  rescue Exception => error
    ANSWERS.puts JSON.generate("error" => "#{error.class}: #{error.message}")
  end
end
