# Promotes what is due now, once, as Sidekiq's own poller does; what it can't promote it says (and loses).
require "json"
require "sidekiq"
require "sidekiq/scheduled"
Sidekiq.logger.level = Logger::FATAL
Sidekiq.redis = { url: ENV.fetch("REDIS_URL") }
begin
  Sidekiq::Scheduled::Enq.new.enqueue_jobs
  puts JSON.generate("error" => nil)
rescue Exception => error
  puts JSON.generate("error" => "#{error.class}: #{error.message}")
end
