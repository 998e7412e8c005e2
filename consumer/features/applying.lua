-- One event: applied once, and answered with what the entity looks like then.

local function add_row(e, st, rows, t, amount)
  local n, width, low, high = st.rows, e.width, 0, 0
  if e.squares then low, high = square(amount) end
  local last = n > 0 and row_time(st, n) or -1
  if t >= last then
    local row = write(TIME, t) .. raised(e, st.s, totals_at(st, n), 1, amount, low, high, 0)
    if t == last or last > st.hot and same_cell(e.hot_grids[1], last, t) then
      return sub(rows, 1, -1 - width) .. row
    end
    return rows .. row
  end
  local i = upto(TIME, rows, 1, width, 0, n, t)
  local parts, k = {}, 1
  if i > 0 and row_time(st, i) == t then
    i = i - 1
  else
    parts[2] = write(TIME, t) .. raised(e, st.s, totals_at(st, i), 1, amount, low, high, 0)
    k = 2
  end
  parts[1] = sub(rows, 1, i * width)
  for p = 1 + i * width, #rows, width do
    k = k + 1
    parts[k] = sub(rows, p, p + 3) .. raised(e, rows, p + 4, 1, amount, low, high, 0)
  end
  return concat(parts)
end

local function add_peak(e, st, peaks, n, t, amount)
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
  local from = st.ids_at
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

-- The further sections with the event in them: minima, distinct values, places.
local function add_to_sections(e, st, t, amount, argument, latitude, longitude)
  local s, sections = st.s, {}
  for i = 1, #e.widths do
    sections[i] = sub(s, st.starts[i], st.starts[i] + st.lengths[i] * e.widths[i] - 1)
  end
  if e.lows then
    local i = e.lows
    sections[i] = add_peak(e, st, sections[i], st.lengths[i], t, LOWEST - amount)
  end
  for track = 1, #e.tracks do
    local hash = sub(argument, e.tracks[track].at, e.tracks[track].at + HASH_BYTES - 1)
    if hash ~= '\0\0\0\0\0' then
      local i = e.tracks[track].section
      sections[i] = add_value(st, sections[i], hash, t)
    end
  end
  if e.places and latitude ~= NOWHERE then
    local newest = t > st.newest and t or st.newest
    sections[e.places] = add_place(sections[e.places], t, latitude, longitude, newest)
  end
  return sections
end

-- True when so many new rows or values came that compacting is worth its time.
local function is_due(e, st, sections, rows)
  if st.pending >= 4 and st.pending * 8 >= rows or st.pending == 255 then return true end
  for i = 1, #e.tracks do
    local section = e.tracks[i].section
    local n = #sections[section] / VALUE_BYTES
    if n > st.lengths[section] and n % 64 == 0 then return true end
  end
  return false
end

local function apply(e, st, id, t, amount, argument, latitude, longitude)
  local s = st.s
  local ids = sub(s, st.ids_at, st.peaks_at - 1)
  local peaks = sub(s, st.peaks_at, st.peaks_at + st.peaks * PEAK_BYTES - 1)
  local sections = add_to_sections(e, st, t, amount, argument, latitude, longitude)
  local rows = add_row(e, st, sub(s, st.rows_at), t, amount)
  if e.maxima then peaks = add_peak(e, st, peaks, st.peaks, t, amount) end
  st.base = sub(s, BASE_AT, BASE_AT + e.width - 5)
  local hot = st.hot ~= NEVER
  if hot then
    add_hot_id(st, id, t)
    if t > st.hot then store_raw(st, t, amount) end
    if t > st.newest then forget(st, t) end
  end
  local n = #rows / e.width
  if n > st.rows and st.pending < 255 then st.pending = st.pending + 1 end
  if t > st.newest then st.newest = t end
  if t < st.first then st.first = t end
  if not hot then ids = add_id(st, ids, id, t) end
  if is_due(e, st, sections, n) then
    rows = compact_rows(e, st, rows)
    if #peaks > 0 then peaks = compact_peaks(e, st, peaks) end
    if e.lows then sections[e.lows] = compact_peaks(e, st, sections[e.lows]) end
    for i = 1, #e.tracks do
      local track = e.tracks[i]
      sections[track.section] = compact_values(track, st, sections[track.section])
    end
    st.pending = 0
  end
  assemble(e, st, ids, peaks, sections, rows)
  if st.unlabelled then forget_labels(st) end
  call('SET', st.key, st.s, 'EX', TTL)
end

-- What a rehearsal calls: reads are answered, and what would write is left out.
local READS = { GET = true, EXISTS = true, SISMEMBER = true }
local function look(name, ...)
  if READS[name] then return redis.call(name, ...) end
end

-- Argument: 8 bytes of id, time u32, amount u48, one byte that is 1 to apply and 2 to answer
-- as if it were applied; then, where e.placed, latitude and longitude, and a hash of 5 bytes
-- for each field that is counted.
-- Applied in the layout that is written, answered from the layout in use.
local function observe(e, key, argument)
  if not read then open() end
  local t, amount, applies = read('<I4I6I1', argument, 9)
  call = applies == 2 and look or redis.call
  local latitude, longitude = NOWHERE, NOWHERE
  if e.placed then latitude, longitude = read('<i4i4', argument, 20) end
  local s = call('GET', key)
  if not s and applies == 0 then return answer(e, nil, READ) end
  local w, st, problem = written_by(e, s), nil, nil
  if s then
    st, problem = parse(w, s)
    if problem then return problem end
    if st.hot ~= NEVER or st.unlabelled then need_whole_slot(key) end
  else
    st = begin(w, t)
  end
  st.key = key
  local newest = st.newest
  local settled = newest - HORIZON
  local at, status, own, since = t, APPLIED, true, nil
  if s and t < settled then
    at, status, own = settled, applies == 0 and READ or LATE, false
  elseif applies == 0 then
    status, own, since = READ, false, t >= newest and t - newest
  elseif s and is_known(st, sub(argument, 1, 8)) then
    status, since = REPEATED, t > newest and t - newest
  else
    since = t >= newest and (s and t - newest or e.cap or 0)
  end
  local y, x, time
  if e.places and w.places then
    y, x, time = previous_place(st, w.places, at, latitude, longitude, status == REPEATED)
  end
  if status == APPLIED then
    apply(w, st, sub(argument, 1, 8), t, amount, argument, latitude, longitude)
  end
  if w ~= e then
    local pages = st.pages
    st = parse(e, st.s)
    st.key, st.pages = key, pages
  end
  return answer(e, st, status, at, own, since, y, x, time)
end
