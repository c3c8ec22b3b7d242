# A shop on one Redis as years of Ruby leave it: loaded by a real Sidekiq (-r), which runs and fails some of it; `fill` (a client) puts it there.
require 'time'
require_relative 'rails'
Sidekiq.configure_server do |config|
  config.redis = { url: ENV.fetch('REDIS_URL') }
  config.average_scheduled_poll_interval = 3600 # what has failed stays where it is
end
Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch('REDIS_URL') } }

class DeepJob
  include Sidekiq::Worker
  sidekiq_options retry: 5, backtrace: 20, tags: ['billing', 'über'], queue: 'low'
  def perform(depth) = depth.zero? ? raise(IOError, "disk\n  of host <b>db-1</b> is full: \e[31m✗\e[0m") : perform(depth - 1)
end

class OnceJob
  include Sidekiq::Worker
  sidekiq_options retry: 0, backtrace: true, queue: 'low'
  def perform(*) = raise('never again')
end

class LongJob
  include Sidekiq::Worker
  sidekiq_options queue: 'low'
  def perform(seconds) = sleep(seconds)
end

class InvoiceJob < ActiveJob::Base
  queue_as :low
  def perform(*) = raise(ArgumentError, 'no such invoice')
end

def fill
  user = User.new(7)
  InvoiceJob.perform_later(user, :now, { since: Time.zone.local(2024, 7, 1), of: [user] }, 3.days, Date.new(2024, 1, 2))
  InvoiceJob.set(wait: 3600, queue: 'mailers').perform_later(user)
  DeepJob.perform_async(30)
  OnceJob.perform_async({ 'a' => [1, nil, 2**70], 'é' => '☃' })
  LongJob.perform_async(600)
  LongJob.perform_in(86_400, 1)
  Sidekiq::Client.push('class' => 'DeepJob', 'args' => [1], 'queue' => 'bulk', 'bid' => 'VWYf44jVYsZARw', 'unique_for' => 600,
                       'expires_in' => 60, 'locale' => 'de', 'x-trace' => { 'id' => 't-1', 's' => [1, 2] })
  Sidekiq::Client.push_bulk('class' => 'PlainJob', 'args' => (1..60).map { |n| [n, "customer-#{n}"] }, 'queue' => 'bulk')
  Sidekiq::Client.push('class' => 'PlainJob', 'args' => ['x' * 50_000], 'queue' => 'bulk')
end
