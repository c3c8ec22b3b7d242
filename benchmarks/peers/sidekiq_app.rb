# Sidekiq: `sidekiq -r ./sidekiq_app.rb`; as a script the commands of common.py: fill, one and stamp.
require 'sidekiq'
require 'json'
require 'net/http'

FOLDER = ENV.fetch('BENCH_FOLDER', '.')
SINK = URI(ENV['BENCH_SINK'].to_s.empty? ? 'http://127.0.0.1:9' : ENV['BENCH_SINK'])
# Ruby has no shared memory at hand: a job's number is written with one system call, for quick jobs only every 50th.
STEP = Integer(ENV.fetch('BENCH_TALLY_STEP', '1'))
TALLY = File.open("#{FOLDER}/tally.#{$$}", 'wb')
LOCK = Mutex.new
$count = 0

def count
  number = LOCK.synchronize { $count += 1 }
  LOCK.synchronize { TALLY.pwrite([$count].pack('Q'), 0) } if (number % STEP).zero?
end

def fill(grid)
  cell = grid.index(0)
  return true unless cell
  row, column = cell.divmod(9)
  corner = row / 3 * 27 + column / 3 * 3
  taken = grid[row * 9, 9]
  9.times { |line| taken << grid[line * 9 + column] }
  3.times { |line| taken.concat(grid[corner + line * 9, 3]) }
  (1..9).each do |digit|
    next if taken.include?(digit)
    grid[cell] = digit
    return true if fill(grid)
  end
  grid[cell] = 0
  false
end

PUZZLE = '53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79'

module Bench
  def self.included(base)
    base.include(Sidekiq::Worker)
    base.sidekiq_options(queue: 'bench')
  end
end

class EmptyJob
  include Bench
  def perform(_n, _text)
    count
  end
end

class WaitJob
  include Bench
  def perform(_n, _text)
    sleep 0.05
    count
  end
end

class FanOutJob
  include Bench
  # One connection a thread, one call after the other.
  def perform(n, _text)
    http = Thread.current[:http] ||= Net::HTTP.start(SINK.host, SINK.port)
    %w[generic google mixpanel segment].each do |name|
      response = http.post("/#{name}", JSON.generate(id: n), 'Content-Type' => 'application/json')
      raise response.code unless response.is_a?(Net::HTTPSuccess)
    end
    count
  end
end

class SudokuJob
  include Bench
  def perform(_n, _text)
    fill(PUZZLE.chars.map(&:to_i))
    count
  end
end

class HoldJob
  include Bench
  def perform(_n, _text)
    count
    sleep 600
  end
end

class StampJob
  include Bench
  def perform(sent, _text)
    latency = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) - sent
    File.open("#{FOLDER}/latencies", 'a') { |file| file.write("#{latency}\n") }
    count
  end
end

JOBS = { 'empty' => EmptyJob, 'wait' => WaitJob, 'fan_out' => FanOutJob, 'sudoku' => SudokuJob, 'hold' => HoldJob, 'stamp' => StampJob }.freeze
Sidekiq.configure_server { |config| config.redis = { url: ENV.fetch('BENCH_REDIS') } }
Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch('BENCH_REDIS') } }

if $PROGRAM_NAME == __FILE__
  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  action, *rest = ARGV
  seconds = 0
  if action == 'stamp'
    dice = Random.new(7)
    Integer(rest[0]).times do
      sleep Float(rest[1]) * dice.rand(0.5..1.5)
      StampJob.perform_async(Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond), '')
    end
  else
    job, text = JOBS.fetch(rest[0]), 'x' * Integer(rest[2])
    arguments = Array.new(Integer(rest[1])) { |n| [n, text] }
    Sidekiq.redis(&:ping)
    began = now
    if action == 'fill'
      arguments.each_slice(1000) { |slice| Sidekiq::Client.push_bulk('class' => job, 'args' => slice) }
    else
      arguments.each { |given| job.perform_async(*given) }
    end
    seconds = now - began
  end
  puts JSON.generate(seconds: seconds)
end
