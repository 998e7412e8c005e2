-- What may be forgotten: rows and peaks that no read can tell from their successors.
-- Which reads there can be follows from the horizon, so compacting now, later, or
-- not at all, never shows in a value.

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
  local width = e.width
  local n, oldest, first = #rows / width, st.newest - HORIZON - e.kept, 0
  while first < n - 1 and read(TIME, rows, 1 + first * width) <= oldest do
    first = first + 1
  end
  if first > 0 then st.base = sub(rows, (first - 1) * width + 5, first * width) end
  local runs, from = {}, first
  local previous = read(TIME, rows, 1 + first * width)
  for i = first + 1, n - 1 do
    local time = read(TIME, rows, 1 + i * width)
    if mergeable(e, st, previous, time) then
      runs[#runs + 1] = sub(rows, 1 + from * width, (i - 1) * width)
      from = i
    end
    previous = time
  end
  runs[#runs + 1] = sub(rows, 1 + from * width)
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
