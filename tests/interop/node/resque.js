// node-resque as a producer, as a worker and as its own tools, for the interop tests.
//   node node_program.js URL call [[method, arg, …], …]      calls methods of Queue in turn; prints their results as one JSON array
//   node node_program.js URL work QUEUE                      works on QUEUE and schedules; prints a JSON line for each job that ran
const { Queue, Worker, Scheduler } = require("node-resque");

const [url, command, argument] = process.argv.slice(2);
const { hostname, port } = new URL(url);
const connection = { pkg: "ioredis", host: hostname, port: Number(port), database: 0, namespace: "resque" };
const say = (value) => console.log(JSON.stringify(value));

const ran = (name) => ({
  perform: async (...args) => {
    say({ class: name, args });
    return true;
  },
});
const boom = {
  perform: async () => {
    throw new TypeError("as asked");
  },
};
const jobs = { Echo: ran("Echo"), Boom: boom, "ActiveJob::QueueAdapters::ResqueAdapter::JobWrapper": ran("wrapper") };

async function call(calls) {
  const queue = new Queue({ connection }, {});
  queue.on("error", (error) => console.error(error));
  await queue.connect();
  const results = [];
  for (const [method, ...args] of calls) results.push(await queue[method](...args));
  await queue.end();
  say(results);
}

async function work(name) {
  const scheduler = new Scheduler({ connection, timeout: 200 });
  const worker = new Worker({ connection, queues: [name], timeout: 50 }, jobs);
  for (const part of [scheduler, worker]) part.on("error", (error) => console.error(error));
  await scheduler.connect();
  await worker.connect();
  worker.start();
  scheduler.start();
  say("ready");
  process.on("SIGTERM", async () => {
    await scheduler.end();
    await worker.end();
    process.exit(0);
  });
}

(command === "call" ? call(JSON.parse(argument)) : work(argument)).catch((error) => {
  console.error(error);
  process.exit(1);
});
