# What Ruby's own API reads of what we wrote, as JSON.
require 'sidekiq'
require 'sidekiq/api'
require 'json'
Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch('REDIS_URL') } }
stats = Sidekiq::Stats.new
def entry(job)
  { class: job.item && job.item['class'], args: job.item && job.item['args'], jid: job.item && job.item['jid'],
    error: job.item && job.item['error_class'], message: job.item && job.item['error_message'],
    retry_count: job.item && job.item['retry_count'], at: job.score, backtrace: (job.error_backtrace rescue nil) }
end
puts JSON.generate(
  processed: stats.processed, failed: stats.failed, enqueued: stats.enqueued, queues: stats.queues,
  retries: Sidekiq::RetrySet.new.map { |job| entry(job) },
  scheduled: Sidekiq::ScheduledSet.new.map { |job| entry(job) },
  dead: Sidekiq::DeadSet.new.map { |job| job.value.dup.force_encoding("UTF-8").scrub },
  processes: Sidekiq::ProcessSet.new(false).map { |process|
    { identity: process.identity, queues: process.queues, hostname: process['hostname'], pid: process['pid'],
      concurrency: process['concurrency'], busy: process['busy'], tag: process.tag, quiet: process['quiet'], rss: process['rss'] } },
  work: Sidekiq::Workers.new.map { |process, thread, work| { process: process, queue: work['queue'], payload: work['payload'], run_at: work['run_at'] } }
)
