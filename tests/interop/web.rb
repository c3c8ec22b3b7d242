# Sidekiq's own web interface on the port given, as a bare Rack program mounts it; says "ready" when it listens.
require 'sidekiq/web'
require 'rack/session/cookie'
require 'rack/builder'
begin
  require 'rackup/handler/webrick' # Rack 3
  server = Rackup::Handler::WEBrick
rescue LoadError
  require 'rack/handler/webrick'
  server = Rack::Handler::WEBrick
end
require 'logger'
require 'securerandom'
Sidekiq.configure_client do |config|
  config.redis = { url: ENV.fetch('REDIS_URL') }
  config.logger = Logger.new($stderr) # 7 greets on standard output
end
page = Rack::Builder.new do
  use Rack::Session::Cookie, secret: SecureRandom.hex(32), same_site: true
  run Sidekiq::Web
end
quiet = WEBrick::Log.new($stderr, WEBrick::Log::WARN)
server.run(page, Host: '127.0.0.1', Port: Integer(ARGV.fetch(0)), Logger: quiet, AccessLog: []) do
  $stdout.puts 'ready'
  $stdout.flush
end
