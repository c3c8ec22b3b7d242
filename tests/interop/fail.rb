# A job of Ruby's that fails, whatever it is given.
require_relative 'still'
Sidekiq.configure_server { |config| config.redis = { url: ENV.fetch('REDIS_URL') } }
class Fail
  include Sidekiq::Worker
  sidekiq_options retry: 1, backtrace: 2, tags: ['ours'], dead: true
  def perform(*)
    raise ArgumentError, 'no'
  end
end
