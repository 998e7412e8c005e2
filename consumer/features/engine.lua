-- The state of one entity: applied once per transaction id, read in the same call.
-- docs/features-state.md describes the bytes and why every read is exact.
--
-- The generator puts the library's name and the constants HORIZON, PERIOD, HOT_AFTER
-- and TTL above this text, and one registration an entity of the plan below it.
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

---------------------------------------------------------------------------- raw pages

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

------------------------------------------------------------------------------ reading

local function since_last(e, st, at, own, rows)
  if rows == 0 then return e.cap end
  local last = row_time(st, rows)
  if own and last == at then
    if (totals(st, rows) - totals(st, rows - 1)) % COUNTS > 1 then return 0 end
    if rows == 1 then return e.cap end
    last = row_time(st, rows - 1)
  end
  return at - last
end

-- Read where every boundary asked for is surely a boundary of rows.
local function read_rows(e, st, at, own, since, out)
  local s, rows_at, hi = st.s, st.rows_at, st.rows
  if at < st.newest then hi = upto(TIME, s, rows_at, ROW_BYTES, 0, hi, at) end
  local k = 0
  if e.cap then
    since = since or since_last(e, st, at, own, hi)
    out[1], k = since < e.cap and since or e.cap, 1
  end
  local count, sum = totals(st, hi)
  local windows, grids = e.windows, e.grids
  for w = 1, #windows do
    local from = at - windows[w]
    hi = upto(TIME, s, rows_at, ROW_BYTES, 0, hi, from - from % grids[w])
    local c, v = totals(st, hi)
    out[k + 1], out[k + 2], k = (count - c) % COUNTS, (sum - v) % SUMS, k + 2
  end
  local largest, w, last = 0, 1, #e.max_windows
  if last == 0 then return end
  local i = st.peaks
  if at < st.newest then i = upto(TIME, s, st.peaks_at, PEAK_BYTES, 0, i, at) end
  local from = at - e.max_windows[1]
  from = from - from % e.max_grids[1]
  local p = st.peaks_at + (i - 1) * PEAK_BYTES
  while p >= st.peaks_at do
    local time, value = read(PEAK, s, p)
    while time <= from do
      out[k + w], w = largest, w + 1
      if w > last then return end
      from = at - e.max_windows[w]
      from = from - from % e.max_grids[w]
    end
    if value > largest then largest = value end
    p = p - PEAK_BYTES
  end
  for i = w, last do out[k + i] = largest end
end

-- The newest boundary of rows not after x, and the oldest not before it, in the part
-- of a hot entity that compacts at once. Grids nest and coarsen with age, so a multiple
-- of the grid at its own age was a boundary at every younger age too.
local function boundary_before(e, st, x)
  local grid, b = 0, x
  while true do
    local wanted = grid_at(e.hot_ages, e.hot_grids, st.newest - b)
    if wanted == grid then break end
    grid, b = wanted, x - x % wanted
  end
  return b < st.hot and st.hot or b
end

local function boundary_after(e, st, x)
  if x <= st.hot then return x end
  return x + (-x) % grid_at(e.hot_ages, e.hot_grids, st.newest - x)
end

local function largest_peak(st, from, to)
  local largest, s = 0, st.s
  local i = upto(TIME, s, st.peaks_at, PEAK_BYTES, 0, st.peaks, to)
  while i > 0 do
    local time, value = read(PEAK, s, st.peaks_at + (i - 1) * PEAK_BYTES)
    if time <= from then break end
    if value > largest then largest = value end
    i = i - 1
  end
  return largest
end

-- A late read of a hot entity: whole cells from the rows, the parts of cells at both
-- ends of the window from the raw pages.
local function read_pages(e, st, at, own, out)
  local s, rows_at = st.s, st.rows_at
  local b = boundary_before(e, st, at - 1)
  local rows = upto(TIME, s, rows_at, ROW_BYTES, 0, st.rows, b)
  local end_count, end_sum, end_largest, last, before = scan(st, b, at)
  local k = 0
  if e.cap then
    if own and last == at then last = before end
    local since = last and at - last or since_last(e, st, at, false, rows)
    out[1], k = since < e.cap and since or e.cap, 1
  end
  local count, sum = totals(st, rows)
  for w = 1, #e.windows do
    local from = at - e.windows[w]
    from = from - from % e.grids[w]
    local n = boundary_after(e, st, from)
    local c, v
    if n > b then
      c, v = scan(st, from, at)
    else
      local c0, v0 = totals(st, upto(TIME, s, rows_at, ROW_BYTES, 0, rows, n))
      c, v = (count - c0) % COUNTS + end_count, (sum - v0) % SUMS + end_sum
      if n > from then
        local c1, v1 = scan(st, from, n)
        c, v = c + c1, v + v1
      end
    end
    out[k + 1], out[k + 2], k = c, v, k + 2
  end
  for w = 1, #e.max_windows do
    local from = at - e.max_windows[w]
    from = from - from % e.max_grids[w]
    local n, largest, _ = boundary_after(e, st, from), end_largest, nil
    if n > b then
      _, _, largest = scan(st, from, at)
    else
      local peak = largest_peak(st, n, b)
      if peak > largest then largest = peak end
      if n > from then _, _, peak = scan(st, from, n) end
      if peak > largest then largest = peak end
    end
    out[k + w] = largest
  end
end

local function answer(e, st, status, at, own, since)
  local out = {}
  if not st then
    for i = 1, e.slots do out[i] = 0 end
    if e.cap then out[1] = e.cap end
  elseif since or at <= st.hot then
    read_rows(e, st, at, own, since, out)
  else
    read_pages(e, st, at, own, out)
  end
  return write(e.reply, status, spread(out))
end

--------------------------------------------------------------------------- compaction

-- True when no read can ask for a boundary in [a, b), so that what ends at a may be
-- merged into what ends at b.
local function mergeable(e, st, a, b)
  if a > st.hot then
    return same_cell(grid_at(e.hot_ages, e.hot_grids, st.newest - b), a, b)
  end
  local age = st.newest - HORIZON - b
  return b <= st.hot and age > 0 and same_cell(grid_at(e.cold_ages, e.cold_grids, age), a, b)
end

local function compact_rows(e, st, rows)
  local n, oldest, first = #rows / ROW_BYTES, st.newest - HORIZON - e.kept, 0
  while first < n - 1 and read(TIME, rows, 1 + first * ROW_BYTES) <= oldest do
    first = first + 1
  end
  if first > 0 then
    local _
    _, st.count, st.sum = read(ROW, rows, 1 + (first - 1) * ROW_BYTES)
  end
  local runs, from = {}, first
  local previous = read(TIME, rows, 1 + first * ROW_BYTES)
  for i = first + 1, n - 1 do
    local time = read(TIME, rows, 1 + i * ROW_BYTES)
    if mergeable(e, st, previous, time) then
      runs[#runs + 1] = sub(rows, 1 + from * ROW_BYTES, (i - 1) * ROW_BYTES)
      from = i
    end
    previous = time
  end
  runs[#runs + 1] = sub(rows, 1 + from * ROW_BYTES)
  return concat(runs)
end

-- A peak goes when a later one that every read includes is as large, or into its
-- successor when both end in one cell.
local function compact_peaks(e, st, peaks)
  local settled, oldest = st.newest - HORIZON, st.newest - HORIZON - e.kept
  local times, values, n = {}, {}, 0
  for p = 1, #peaks, PEAK_BYTES do
    local time, value = read(PEAK, peaks, p)
    while n > 0 do
      if not (time <= settled and value >= values[n]) then
        if not mergeable(e, st, times[n], time) then break end
        if values[n] > value then value = values[n] end
      end
      n = n - 1
    end
    if time > oldest then
      n = n + 1
      times[n], values[n] = time, value
    end
  end
  local out = {}
  for i = 1, n do out[i] = write(PEAK, times[i], values[i]) end
  return concat(out)
end

----------------------------------------------------------------------------- applying

local function add_row(e, st, rows, t, amount)
  local n = st.rows
  local last = n > 0 and row_time(st, n) or -1
  if t >= last then
    local c, v = totals(st, n)
    local row = write(ROW, t, (c + 1) % COUNTS, (v + amount) % SUMS)
    if t == last or last > st.hot and same_cell(e.hot_grids[1], last, t) then
      return sub(rows, 1, -1 - ROW_BYTES) .. row
    end
    return rows .. row
  end
  local i = upto(TIME, rows, 1, ROW_BYTES, 0, n, t)
  local parts, k = {}, 1
  if i > 0 and row_time(st, i) == t then
    i = i - 1
  else
    local c, v = totals(st, i)
    parts[2], k = write(ROW, t, (c + 1) % COUNTS, (v + amount) % SUMS), 2
  end
  parts[1] = sub(rows, 1, i * ROW_BYTES)
  for p = 1 + i * ROW_BYTES, #rows, ROW_BYTES do
    local time, c, v = read(ROW, rows, p)
    k = k + 1
    parts[k] = write(ROW, time, (c + 1) % COUNTS, (v + amount) % SUMS)
  end
  return concat(parts)
end

local function add_peak(e, st, peaks, t, amount)
  local n = st.peaks
  local i = n
  if t < st.newest then i = upto(TIME, peaks, 1, PEAK_BYTES, 0, n, t) end
  local keep = i
  if i > 0 then
    local time, value = read(PEAK, peaks, 1 + (i - 1) * PEAK_BYTES)
    local tail = i == n and t >= st.newest and time > st.hot
    if time == t or tail and same_cell(e.hot_grids[1], time, t) then
      keep = i - 1
      if value > amount then amount = value end
    end
  end
  return sub(peaks, 1, keep * PEAK_BYTES) .. write(PEAK, t, amount) .. sub(peaks, 1 + i * PEAK_BYTES)
end

local function period(time)
  return (time - time % PERIOD) / PERIOD
end

local function is_known(st, id)
  local low = period(st.newest - HORIZON)
  if st.hot ~= NEVER then
    for p = low < 0 and 0 or low, period(st.newest) do
      if call('SISMEMBER', st.key .. ':i:' .. p, id) == 1 then return true end
    end
    return false
  end
  local from = HEAD_BYTES + 1
  local at = find(st.s, id, from, true)
  while at and at < st.peaks_at do
    if (at - from) % ID_BYTES == 0 and read(PERIOD_OF, st.s, at + 8) >= low then return true end
    at = find(st.s, id, at + 1, true)
  end
  return false
end

local function turn_hot(st, ids)
  for i = 1, #ids, ID_BYTES do
    local key = st.key .. ':i:' .. read(PERIOD_OF, ids, i + 8)
    call('SADD', key, sub(ids, i, i + 7))
    call('EXPIRE', key, TTL)
  end
  st.hot = st.newest
end

-- Remember an id in the string of a cold entity, which may make it hot.
local function add_id(st, ids, id, t)
  local low, first = period(st.newest - HORIZON), 1
  while first < #ids and read(PERIOD_OF, ids, first + 8) < low do first = first + ID_BYTES end
  ids = sub(ids, first) .. id .. write(PERIOD_OF, period(t))
  if #ids <= HOT_AFTER * ID_BYTES then return ids end
  local live = {}
  for i = 1, #ids, ID_BYTES do
    if read(PERIOD_OF, ids, i + 8) >= low then live[#live + 1] = sub(ids, i, i + 10) end
  end
  ids = concat(live)
  if #live <= HOT_AFTER then return ids end
  turn_hot(st, ids)
  return ''
end

-- Forget the id sets and pages that a hot entity's newest event leaves behind.
local function forget(st, newest)
  local old, new = period(st.newest - HORIZON), period(newest - HORIZON)
  if new > old then
    local last = period(st.newest)
    for p = old, new - 1 < last and new - 1 or last do call('UNLINK', st.key .. ':i:' .. p) end
  end
  old, new = st.newest - PAGES_KEPT, newest - PAGES_KEPT
  old, new = (old - old % PAGE) / PAGE, (new - new % PAGE) / PAGE
  if new > old then
    local last = (st.newest - st.newest % PAGE) / PAGE
    for p = old, new - 1 < last and new - 1 or last do call('UNLINK', st.key .. ':p:' .. p) end
  end
end

local function add_hot_id(st, id, t)
  local p, current = period(t), period(st.newest)
  local key = st.key .. ':i:' .. p
  call('SADD', key, id)
  if p ~= current then call('EXPIRE', key, TTL) end
end

local function apply(e, st, id, t, amount)
  local s = st.s
  local ids = sub(s, HEAD_BYTES + 1, st.peaks_at - 1)
  local peaks = sub(s, st.peaks_at, st.rows_at - 1)
  local rows = add_row(e, st, sub(s, st.rows_at), t, amount)
  if #e.max_windows > 0 then peaks = add_peak(e, st, peaks, t, amount) end
  local hot = st.hot ~= NEVER
  if hot then
    add_hot_id(st, id, t)
    if t > st.hot then store_raw(st, t, amount) end
    if t > st.newest then forget(st, t) end
  end
  local n = #rows / ROW_BYTES
  if n > st.rows and st.pending < 255 then st.pending = st.pending + 1 end
  if t > st.newest then st.newest = t end
  if t < st.first then st.first = t end
  if not hot then ids = add_id(st, ids, id, t) end
  if st.pending >= 4 and st.pending * 8 >= n or st.pending == 255 then
    rows = compact_rows(e, st, rows)
    if #peaks > 0 then peaks = compact_peaks(e, st, peaks) end
    st.pending = 0
  end
  st.ids, st.peaks = #ids / ID_BYTES, #peaks / PEAK_BYTES
  st.peaks_at = HEAD_BYTES + 1 + #ids
  st.rows_at = st.peaks_at + #peaks
  st.rows = #rows / ROW_BYTES
  st.s = write(HEAD, SCHEMA, st.hot == NEVER and 0 or 1, e.layout, st.newest, st.first, st.hot,
    st.pending, st.ids, st.peaks, st.count, st.sum) .. ids .. peaks .. rows
  call('SET', st.key, st.s, 'EX', TTL)
end

-- Argument: 8 bytes of id, time u32, amount u48, one byte that is 1 to apply.
local function observe(e, key, argument)
  if not read then open() end
  local t, amount, applies = read('<I4I6I1', argument, 9)
  local s = call('GET', key)
  if not s and applies == 0 then return answer(e, nil, READ) end
  local st, problem
  if s then
    st, problem = parse(e, s)
    if problem then return problem end
  else
    st = {
      s = '', newest = -1, first = t, hot = NEVER, pending = 0, ids = 0, peaks = 0,
      peaks_at = HEAD_BYTES + 1, rows_at = HEAD_BYTES + 1, rows = 0, count = 0, sum = 0,
    }
  end
  st.key = key
  local newest = st.newest
  local settled = newest - HORIZON
  if s and t < settled then
    return answer(e, st, applies == 1 and LATE or READ, settled, false)
  end
  if applies == 0 then
    return answer(e, st, READ, t, false, t >= newest and t - newest)
  end
  if s and is_known(st, sub(argument, 1, 8)) then
    return answer(e, st, REPEATED, t, true, t > newest and t - newest)
  end
  apply(e, st, sub(argument, 1, 8), t, amount)
  return answer(e, st, APPLIED, t, true, t >= newest and (s and t - newest or e.cap or 0))
end
