-- The requests that wrk sends: the environment variable WORK is "get", "post" or "mixed". At the end,
-- wrk prints the numbers of requests and errors, and in microseconds the duration and the median
-- latency.

wrk.headers["Host"] = "127.0.0.1" -- wrk adds it only later
local get = wrk.format("GET", "/")
local post = wrk.format(
  "POST", "/", {["Content-Type"] = "application/x-www-form-urlencoded"}, "text=buy+milk"
)
local work = os.getenv("WORK")
local count = 0

function request()
  count = count + 1
  if work == "mixed" and count % 20 == 0 then
    return wrk.format("GET", "/?from=" .. math.random(1000000))
  end
  if work == "post" or work == "mixed" and count % 20 == 10 then return post end
  return get
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    "RESULT %d %d %d %d", summary.requests,
    errors.connect + errors.read + errors.write + errors.timeout + errors.status,
    summary.duration, latency:percentile(50)
  ))
end
