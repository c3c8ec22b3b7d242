# A Sidekiq that promotes nothing: what waits for its next attempt lies still, however long a test takes.
require 'sidekiq'
require 'sidekiq/scheduled'
class Sidekiq::Scheduled::Poller
  def enqueue; end
end
