# Sidekiq's own API, one Ruby process for many questions: reads a line of Ruby, prints its value as a line of JSON.
require 'sidekiq'
require 'sidekiq/api'
require 'json'
Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch('REDIS_URL') } }
$stdout.sync = true
while (line = $stdin.gets)
  begin
    puts JSON.generate([eval(line)])
  rescue StandardError => error
    puts JSON.generate({ error: "#{error.class}: #{error.message}" })
  end
end
