-- wrk's side of `load.py`. Arguments after `--`: a file of paths that are asked for in turn, and from which on; or none.
-- Every thread asks for them from another place on; what each received is told, so that one can see who was served.
local threads = {}
received = 0

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  if #args < 2 then return end
  local asked, paths = {}, {}
  for path in io.lines(args[1]) do
    table.insert(paths, path)
  end
  for _, path in ipairs(paths) do
    table.insert(asked, wrk.format("GET", path))
  end
  local at = tonumber(args[2]) + number * tonumber(args[3])
  request = function()
    received = received + 1
    at = at % #asked + 1
    return asked[at]
  end
end

-- Prints what wrk measured as one line of JSON: counts, seconds, and percentiles of latency in milliseconds.
function done(summary, latency, requests)
  local errors = summary.errors
  local shares = {}
  for _, thread in ipairs(threads) do
    table.insert(shares, tostring(thread:get("received")))
  end
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "bytes": %d, "failed": %d, "p50_ms": %.4f, "p99_ms": %.4f, "shares": [%s]}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, table.concat(shares, ", ")))
end
