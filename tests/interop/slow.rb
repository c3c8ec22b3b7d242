# A job of Ruby's that takes its time.
require 'sidekiq'
Sidekiq.configure_server { |config| config.redis = { url: ENV.fetch('REDIS_URL') } }
class SlowJob
  include Sidekiq::Worker
  def perform(seconds)
    sleep seconds
  end
end
