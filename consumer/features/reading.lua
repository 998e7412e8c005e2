-- What the state answers: the time since the last event, the age, windows, lagged
-- windows, maxima, minima, distinct values, the previous place; in this order.

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

-- The age of the entity, where it is asked for.
local function add_age(e, st, at, out, k)
  if not e.age_cap then return k end
  local age = at - st.first
  if age < 0 then age = 0 end
  out[k + 1] = age < e.age_cap and age or e.age_cap
  return k + 1
end

-- Limbs of the squares between two rows.
local function squares_between(e, st, bottom, top)
  local l1, h1 = read(SQUARES, st.s, totals_at(st, top) + e.squares)
  local l0, h0 = read(SQUARES, st.s, totals_at(st, bottom) + e.squares)
  local low, high = l1 - l0, h1 - h0
  if low < 0 then low, high = low + SUMS, high - 1 end
  return low, high % SUMS
end

-- Windows that end on their grid before the reading time. Both edges are boundaries of
-- rows at every age that a read can ask for, so rows suffice, hot or not.
local function read_lagged(e, st, at, out, k)
  local s, rows_at, width, windows = st.s, st.rows_at, st.width, e.lagged
  for w = 1, #windows do
    local grid, to = e.lagged_grids[w], at - e.lagged_delays[w]
    local from = to - windows[w]
    local top = upto(TIME, s, rows_at, width, 0, st.rows, to - to % grid)
    local bottom = upto(TIME, s, rows_at, width, 0, top, from - from % grid)
    local c1, v1 = totals(st, top)
    local c0, v0 = totals(st, bottom)
    out[k + 1], out[k + 2], k = (c1 - c0) % COUNTS, (v1 - v0) % SUMS, k + 2
    if e.squares then
      out[k + 1], out[k + 2] = squares_between(e, st, bottom, top)
      k = k + 2
    end
    if e.labels then
      local f1 = read(COUNT, s, totals_at(st, top) + 9)
      local f0 = read(COUNT, s, totals_at(st, bottom) + 9)
      k = k + 1
      out[k] = (f1 - f0) % COUNTS
    end
  end
  return k
end

-- The largest peak of each window, from a ladder at base with n entries up to the time.
local function read_ladder(st, base, n, at, windows, grids, out, k)
  local s, largest, w, last = st.s, 0, 1, #windows
  local i = n
  if at < st.newest then i = upto(TIME, s, base, PEAK_BYTES, 0, i, at) end
  local from = at - windows[1]
  from = from - from % grids[1]
  local p = base + (i - 1) * PEAK_BYTES
  while p >= base and w <= last do
    local time, value = read(PEAK, s, p)
    while w <= last and time <= from do
      out[k + w], w = largest, w + 1
      if w <= last then
        from = at - windows[w]
        from = from - from % grids[w]
      end
    end
    if value > largest then largest = value end
    p = p - PEAK_BYTES
  end
  for rest = w, last do out[k + rest] = largest end
  return k + last
end

-- Turn the last n answers from LOWEST less the amount into amounts; 0 without events.
local function turn(out, k, n)
  for i = k - n + 1, k do
    if out[i] > 0 then out[i] = LOWEST - out[i] end
  end
  return k
end

-- Read where every boundary asked for is surely a boundary of rows.
local function read_rows(e, st, at, own, since, out)
  local s, rows_at, width, hi = st.s, st.rows_at, st.width, st.rows
  if at < st.newest then hi = upto(TIME, s, rows_at, width, 0, hi, at) end
  local k, top = 0, hi
  if e.cap then
    since = since or since_last(e, st, at, own, hi)
    out[1], k = since < e.cap and since or e.cap, 1
  end
  k = add_age(e, st, at, out, k)
  local count, sum = totals(st, hi)
  local windows, grids = e.windows, e.grids
  for w = 1, #windows do
    local from = at - windows[w]
    hi = upto(TIME, s, rows_at, width, 0, hi, from - from % grids[w])
    local c, v = totals(st, hi)
    out[k + 1], out[k + 2], k = (count - c) % COUNTS, (sum - v) % SUMS, k + 2
    if e.squares then
      out[k + 1], out[k + 2] = squares_between(e, st, hi, top)
      k = k + 2
    end
  end
  if #e.lagged > 0 then k = read_lagged(e, st, at, out, k) end
  if #e.max_windows > 0 then
    k = read_ladder(st, st.peaks_at, st.peaks, at, e.max_windows, e.max_grids, out, k)
  end
  if e.lows then
    k = read_ladder(st, st.starts[e.lows], st.lengths[e.lows], at, e.min_windows, e.min_grids, out, k)
    k = turn(out, k, #e.min_windows)
  end
  return k
end

-- The newest boundary of rows not after x, and the oldest not before it, in the part
-- of a hot entity that compacts at once. Grids nest and coarsen with age, so a multiple
-- of the grid at its own age was a boundary at every younger age too. No layout merges
-- more coarsely than PAGED while there are pages; older boundaries are only asked for by
-- windows that outlive the pages, and kept by every layout that has them.
local function boundary_before(e, st, x)
  local grid, b = 0, x
  while true do
    local wanted = grid_at(e.hot_ages, e.hot_grids, st.newest - b)
    if wanted == grid then break end
    grid, b = wanted, x - x % wanted
  end
  if st.upgraded and b <= st.upgraded then b = x - x % PAGED end
  return b < st.hot and st.hot or b
end

local function boundary_after(e, st, x)
  if x <= st.hot then return x end
  if st.upgraded and x <= st.upgraded and st.newest - x < PAGES_KEPT then return x + (-x) % PAGED end
  return x + (-x) % grid_at(e.hot_ages, e.hot_grids, st.newest - x)
end

local function largest_peak(st, base, count, from, to)
  local largest, s = 0, st.s
  local i = upto(TIME, s, base, PEAK_BYTES, 0, count, to)
  while i > 0 do
    local time, value = read(PEAK, s, base + (i - 1) * PEAK_BYTES)
    if time <= from then break end
    if value > largest then largest = value end
    i = i - 1
  end
  return largest
end

-- Add the raw events of a part of a cell to count, sum and squares of a window.
local function add_part(e, out, k, part)
  out[k + 1], out[k + 2] = out[k + 1] + part.count, out[k + 2] + part.sum
  if e.squares then
    local l, h = out[k + 3] + part.low, out[k + 4] + part.high
    if l >= SUMS then l, h = l - SUMS, h + 1 end
    out[k + 3], out[k + 4] = l, h
  end
end

-- Windows of a late read of a hot entity: whole cells from the rows, the parts of cells
-- at both ends from the raw pages; b ends the rows, the part after it is known.
local function read_windows(e, st, at, b, ending, out, k)
  local s, rows_at, width = st.s, st.rows_at, st.width
  local rows = upto(TIME, s, rows_at, width, 0, st.rows, b)
  local count, sum = totals(st, rows)
  for w = 1, #e.windows do
    local from = at - e.windows[w]
    from = from - from % e.grids[w]
    local n = boundary_after(e, st, from)
    out[k + 1], out[k + 2], out[k + 3], out[k + 4] = 0, 0, 0, 0
    if n > b then
      add_part(e, out, k, scan(e, st, from, at))
    else
      local bottom = upto(TIME, s, rows_at, width, 0, rows, n)
      local c0, v0 = totals(st, bottom)
      out[k + 1], out[k + 2] = (count - c0) % COUNTS, (sum - v0) % SUMS
      if e.squares then out[k + 3], out[k + 4] = squares_between(e, st, bottom, rows) end
      add_part(e, out, k, ending)
      if n > from then add_part(e, out, k, scan(e, st, from, n)) end
    end
    k = k + (e.squares and 4 or 2)
  end
  return k
end

-- The same for a ladder, whose raw values have the given name in what scan returns.
local function read_peaks(e, st, base, count, at, b, ending, windows, grids, name, out, k)
  for w = 1, #windows do
    local from = at - windows[w]
    from = from - from % grids[w]
    local n, largest = boundary_after(e, st, from), ending[name]
    if n > b then
      largest = scan(e, st, from, at)[name]
    else
      local peak = largest_peak(st, base, count, n, b)
      if peak > largest then largest = peak end
      if n > from then peak = scan(e, st, from, n)[name] end
      if peak > largest then largest = peak end
    end
    out[k + w] = largest
  end
  return k + #windows
end

local function read_pages(e, st, at, own, out)
  local b = boundary_before(e, st, at - 1)
  local ending, k = scan(e, st, b, at), 0
  if e.cap then
    local last = ending.last
    if own and last == at then last = ending.before end
    local rows = upto(TIME, st.s, st.rows_at, st.width, 0, st.rows, b)
    local since = last and at - last or since_last(e, st, at, false, rows)
    out[1], k = since < e.cap and since or e.cap, 1
  end
  k = add_age(e, st, at, out, k)
  k = read_windows(e, st, at, b, ending, out, k)
  if #e.lagged > 0 then k = read_lagged(e, st, at, out, k) end
  k = read_peaks(e, st, st.peaks_at, st.peaks, at, b, ending, e.max_windows, e.max_grids,
    'largest', out, k)
  if e.lows then
    k = read_peaks(e, st, st.starts[e.lows], st.lengths[e.lows], at, b, ending, e.min_windows,
      e.min_grids, 'lowest', out, k)
    k = turn(out, k, #e.min_windows)
  end
  return k
end

local function answer(e, st, status, at, own, since, latitude, longitude, time)
  if e.slots == 0 then return write(e.reply, status) end
  local out = {}
  if not st then
    for i = 1, e.slots do out[i] = 0 end
    if e.cap then out[1] = e.cap end
    if e.places then out[e.slots] = -1 end
    return write(e.reply, status, spread(out))
  end
  local k
  if since or at <= st.hot then
    k = read_rows(e, st, at, own, since, out)
  else
    k = read_pages(e, st, at, own, out)
  end
  for i = 1, #e.tracks do k = read_values(st, e.tracks[i], e.tracks[i].section, at, out, k) end
  if e.places then
    if latitude then
      out[k + 1], out[k + 2], out[k + 3] = latitude, longitude, at - time
    else
      out[k + 1], out[k + 2], out[k + 3] = 0, 0, -1
    end
  end
  return write(e.reply, status, spread(out, 1, e.slots))
end
