# Does what Sidekiq's web page does: `act.rb retry|revive|delete|kill|quiet|stop`.
require 'sidekiq'
require 'sidekiq/api'
Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch('REDIS_URL') } }
case ARGV.fetch(0)
when 'retry' then Sidekiq::RetrySet.new.each(&:retry)
when 'revive' then Sidekiq::DeadSet.new.each(&:retry)
when 'delete' then Sidekiq::RetrySet.new.each(&:delete)
when 'kill' then Sidekiq::RetrySet.new.each(&:kill)
when 'quiet' then Sidekiq::ProcessSet.new(false).each(&:quiet!)
when 'stop' then Sidekiq::ProcessSet.new(false).each(&:stop!)
end
