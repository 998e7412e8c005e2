-- What the state answers: windows, maxima and the time since the last event.

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
