# Evaluates one line of Ruby after the other and answers each with one line of JSON.
$stdout.sync = true

require_relative "rails"
Sidekiq.logger = Logger.new($stderr) # the answers are alone on standard output
while (line = $stdin.gets)
  begin
    puts JSON.generate("result" => eval(line))
  rescue Exception => error
    puts JSON.generate("error" => "#{error.class}: #{error.message}")
  end
end
