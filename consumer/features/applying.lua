-- One event: applied once, and answered with what the entity looks like then.

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
