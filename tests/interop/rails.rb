# A small Rails shop without Rails: ActiveJob classes over Sidekiq. Loaded by a real Sidekiq (-r) and by console.rb.
require "bigdecimal"
require "json"
require "sidekiq"
require "sidekiq/api"
require "sidekiq/scheduled"
require "active_job"
require "active_support/time"
require "global_id"

ActiveJob::Base.queue_adapter = :sidekiq
ActiveJob::Base.logger = Logger.new(nil)
Time.zone_default = Time.find_zone!("America/New_York")
GlobalID.app = "shop"

class User < Struct.new(:id)
  include GlobalID::Identification
  def self.find(id) = new(id)
end

# A value as class and text, so that Python sees what Ruby got.
def described(value)
  case value
  when Array then value.map { |item| described(item) }
  when Hash then value.map { |key, item| [described(key), described(item)] }
  when ActiveSupport::TimeWithZone then ["TimeWithZone", value.iso8601(6)]
  when Time then ["Time", value.utc.iso8601(6)]
  when ActiveSupport::Duration then ["Duration", value.value.to_s]
  when User then ["User", value.id]
  else [value.class.name, value.inspect]
  end
end

def performed(job, args, kwargs)
  record = {
    "class" => job.class.name, "args" => described(args), "kwargs" => described(kwargs), "executions" => job.executions,
    "exception_executions" => job.exception_executions, "jid" => job.provider_job_id, "job_id" => job.job_id,
    "locale" => job.locale
  }
  Sidekiq.redis { |redis| redis.rpush("ruby:performed", JSON.generate(record)) }
end

class EchoJob < ActiveJob::Base
  queue_as :rails
  def perform(*args, **kwargs) = performed(self, args, kwargs)
end

# `retry_on` re-enqueues through ActiveJob itself: it needs all that a payload must tell.
class StubbornJob < ActiveJob::Base
  queue_as :rails
  retry_on ArgumentError, wait: 0, attempts: 3
  def perform(*args, **kwargs)
    performed(self, args, kwargs)
    raise ArgumentError, "again" if exception_executions.values.sum < 2
  end
end

def promote_what_is_due
  due = Sidekiq::VERSION < "7" ? Sidekiq::Scheduled::Enq.new : Sidekiq::Scheduled::Enq.new(Sidekiq.default_configuration)
  due.enqueue_jobs
end

# A plain Sidekiq job.
class PlainJob
  include Sidekiq::Worker
  def perform(*args)
    Sidekiq.redis { |redis| redis.rpush("ruby:performed", JSON.generate("class" => "PlainJob", "args" => args, "jid" => jid)) }
  end
end

# Handled in Python, on the queue that the tests' worker consumes.
class TrackUserJob < ActiveJob::Base
  queue_as :python
end

class AnythingJob < ActiveJob::Base
  queue_as :python
end

# Fails in Python and is retried in Ruby.
class MovingJob < ActiveJob::Base
  include Sidekiq::Worker::Options
  queue_as :python
  sidekiq_options retry_queue: "rails"
  def perform(*args, **kwargs) = performed(self, args, kwargs)
end

# Fails in Ruby and is retried in Python.
class ReturningJob < ActiveJob::Base
  include Sidekiq::Worker::Options
  queue_as :rails
  sidekiq_options retry_queue: "python"
  def perform(*) = raise("Ruby can't")
end

# As Sidekiq Enterprise does it in its client's middleware: the last argument becomes a text that only Ruby can read.
class Encrypt
  def call(_, job, *)
    job["args"][-1] = ["\x04secret"].pack("m0") if job["encrypt"] && !job["args"][-1].is_a?(String)
    yield
  end
end
Sidekiq.configure_client { |config| config.client_middleware { |chain| chain.add Encrypt } }

class SecretJob < ActiveJob::Base
  include Sidekiq::Worker::Options
  queue_as :python
  sidekiq_options encrypt: true
end
