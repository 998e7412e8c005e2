-- The state of one entity: its bytes, its grids and the raw events of a hot one.
-- docs/features-state.md describes the format and why every read is exact.
--
-- The library is one text: the constants HORIZON, PERIOD, HOT_AFTER and TTL, then
-- state.lua, reading.lua, compaction.lua, applying.lua, then a registration an entity.
--
-- Times are whole seconds, money is minor units; counts are kept modulo 2^24 and sums
-- modulo 2^48, so that only a window's own total has to fit.

local SCHEMA = 1
local READ, APPLIED, REPEATED, LATE = 0, 1, 2, 3
local NEVER = 4294967295

local HEAD, HEAD_BYTES = '<I1I1I2I4I4I4I1I2I2I3I6', 30
local TIME = '<I4'
local ROW, TOTALS, ROW_BYTES = '<I4I3I6', '<I3I6', 13
local PEAK, PEAK_BYTES = '<I4I6', 10
local PERIOD_OF, ID_BYTES = '<I3', 11
local OFFSET, RAW, RAW_BYTES = '<I2', '<I2I6', 8
local COUNTS, SUMS = 16777216, 281474976710656
local PAGE = 7200
local PAGES_KEPT = HORIZON + 86400 + PAGE

-- Not there yet while a library loads, so they are taken on the first call.
local read, write, sub, find, concat, spread, call

local function open()
  read, write, sub, find = struct.unpack, struct.pack, string.sub, string.find
  concat, spread, call = table.concat, unpack, redis.call
end

-- How many of the sorted entries lo+1 .. hi, and of those before, are not after x.
local function upto(format, s, base, width, lo, hi, x)
  while lo < hi do
    local mid = lo + hi
    mid = (mid - mid % 2) / 2
    if read(format, s, base + mid * width) <= x then
      lo = mid + 1
    else
      hi = mid
    end
  end
  return lo
end

local function same_cell(grid, a, b)
  a, b = a - 1, b - 1
  return a - a % grid == b - b % grid
end

local function grid_at(ages, grids, age)
  local n = #grids
  for i = 1, n - 1 do
    if age < ages[i] then return grids[i] end
  end
  return grids[n]
end

local function parse(e, s)
  local schema, flags, layout, newest, first, hot, pending, ids, peaks, count, sum = read(HEAD, s)
  if schema ~= SCHEMA or layout ~= e.layout then
    return nil, redis.error_reply('FRAUDSTREAM_STATE schema ' .. schema .. ' layout ' .. layout ..
      ', expected schema ' .. SCHEMA .. ' layout ' .. e.layout)
  end
  local at = HEAD_BYTES + 1 + ids * ID_BYTES
  local rows = at + peaks * PEAK_BYTES
  return {
    s = s, newest = newest, first = first, hot = hot, pending = pending, ids = ids,
    peaks = peaks, peaks_at = at, rows_at = rows, rows = (#s - rows + 1) / ROW_BYTES,
    count = count, sum = sum,
  }
end

-- Count and sum of everything up to and with the i-th row.
local function totals(st, i)
  if i == 0 then return st.count, st.sum end
  return read(TOTALS, st.s, st.rows_at + i * ROW_BYTES - 9)
end

local function row_time(st, i)
  return (read(TIME, st.s, st.rows_at + (i - 1) * ROW_BYTES))
end

-- Pages: the raw events of a hot entity, one string for every PAGE seconds.

local function page_of(st, number)
  local page = st.pages and st.pages[number]
  if not page then
    page = call('GET', st.key .. ':p:' .. number) or ''
    st.pages = st.pages or {}
    st.pages[number] = page
  end
  return page
end

-- The raw events in (from, to]: count, sum, largest, and the times of the last two.
local function scan(st, from, to)
  local count, sum, largest, last, before = 0, 0, 0, nil, nil
  local first = from + 1
  for number = (first - first % PAGE) / PAGE, (to - to % PAGE) / PAGE do
    local page, start = page_of(st, number), number * PAGE
    local n = #page / RAW_BYTES
    local i = upto(OFFSET, page, 1, RAW_BYTES, 0, n, from - start)
    while i < n do
      local offset, amount = read(RAW, page, 1 + i * RAW_BYTES)
      local time = start + offset
      if time > to then break end
      count, sum, i = count + 1, sum + amount, i + 1
      if amount > largest then largest = amount end
      before, last = last, time
    end
  end
  return count, sum, largest, last, before
end

local function store_raw(st, t, amount)
  local offset = t % PAGE
  local number = (t - offset) / PAGE
  local key, entry = st.key .. ':p:' .. number, write(RAW, offset, amount)
  if t >= st.newest then
    if call('APPEND', key, entry) == RAW_BYTES then call('EXPIRE', key, TTL) end
    return
  end
  local page = page_of(st, number)
  local at = upto(OFFSET, page, 1, RAW_BYTES, 0, #page / RAW_BYTES, offset) * RAW_BYTES
  local tail = entry .. sub(page, at + 1)
  call('SETRANGE', key, at, tail)
  if page == '' then call('EXPIRE', key, TTL) end
  st.pages[number] = sub(page, 1, at) .. tail
end
