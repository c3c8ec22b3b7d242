# A Sidekiq whose middlewares put a trace's context where OpenTelemetry's Sidekiq instrumentation puts it, and look for it where that one looks: in the
# job's hash, at the top level, under the names of W3C's headers. (The instrumentation itself is a gem that Debian doesn't have.)
require 'sidekiq'

class PutContext
  def call(_worker_class, job, _queue, _redis_pool)
    { 'traceparent' => ENV['TRACEPARENT'], 'tracestate' => ENV['TRACESTATE'], 'baggage' => ENV['BAGGAGE'] }.each { |name, text| job[name] = text if text }
    yield
  end
end

class FindContext
  def call(_worker, msg, _queue)
    Sidekiq.redis { |redis| redis.hset('found', msg['jid'], [msg['traceparent'], msg['baggage']].join(' ')) }
    yield
  end
end

class Next
  include Sidekiq::Worker
  def perform; end
end

Sidekiq.configure_client do |config|
  config.redis = { url: ENV.fetch('REDIS_URL') }
  config.client_middleware { |chain| chain.add PutContext }
end
Sidekiq.configure_server do |config|
  config.redis = { url: ENV.fetch('REDIS_URL') }
  config.server_middleware { |chain| chain.add FindContext }
end
