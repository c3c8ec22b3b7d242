# What a real Ruby Sidekiq makes of odd payloads: it notes the arguments with which each was run; what says `fail` fails.
require_relative 'still'
Sidekiq.configure_server { |config| config.redis = { url: ENV.fetch('REDIS_URL') } }
class Odd
  include Sidekiq::Worker
  def perform(*args)
    raise 'boom' if args.flatten.include?('fail')
    Sidekiq.redis { |redis| redis.rpush('ran', args.to_json) }
  end
end
