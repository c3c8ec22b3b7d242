# What a real Ruby Sidekiq runs of ours: it notes each solved puzzle in a Redis list.
require 'sidekiq'
Sidekiq.configure_server { |config| config.redis = { url: ENV.fetch('REDIS_URL') } }
class SolvedPuzzleJob
  include Sidekiq::Worker
  def perform(id, solved)
    Sidekiq.redis { |redis| redis.rpush('ruby:solved', [id, solved].to_json) }
  end
end
