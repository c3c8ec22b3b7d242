# Sidekiq's own API, one Ruby process for many questions: reads a line of Ruby, prints its value as a line of JSON.
require 'sidekiq'
require 'sidekiq/api'
require 'json'
require 'logger'
Sidekiq.configure_client do |config|
  config.redis = { url: ENV.fetch('REDIS_URL') }
  config.logger = Logger.new($stderr) # 7 greets on standard output
end
$stdout.sync = true

# Process, queue and jid of all that runs; newer versions give the payload as it came.
def works
  Sidekiq::WorkSet.new.map do |process, _, work|
    payload = work.is_a?(Hash) ? work['payload'] : work.payload
    payload = JSON.parse(payload) if payload.is_a?(String)
    [process, work.is_a?(Hash) ? work['queue'] : work.queue, payload['jid']]
  end
end

while (line = $stdin.gets)
  begin
    puts JSON.generate([eval(line)])
  rescue StandardError => error
    puts JSON.generate({ error: "#{error.class}: #{error.message}" })
  end
end
