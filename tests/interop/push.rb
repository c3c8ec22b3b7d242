# Pushes the jobs given on standard input, a JSON array of Sidekiq items; prints their jids.
require 'sidekiq'
require 'json'
Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch('REDIS_URL') } }
puts JSON.generate(JSON.parse($stdin.read).map { |item| Sidekiq::Client.push(item) })
