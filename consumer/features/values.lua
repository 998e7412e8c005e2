-- Distinct values of a field: (hash, time) of sights, in order of time.
--
-- Of each value the latest sight that is settled (not after newest - H) and every later
-- one are kept, so that late reads see what they should; a hot entity keeps the latest
-- alone. Beyond EXACT values in a window the answer is an estimate from the smallest
-- hashes, so a sight goes once more than EXACT smaller ones are settled after it.

local VALUE, HASH, VALUE_BYTES, HASH_BYTES = '<I5I4', '<I5', 9, 5
local EXACT, HASHES = 128, 1099511627776

local function value_time(values, i)
  return (read(TIME, values, 1 + (i - 1) * VALUE_BYTES + HASH_BYTES))
end

-- Where a value's last sight begins, by its five bytes.
local function last_sight(values, hash)
  local found, at = nil, find(values, hash, 1, true)
  while at do
    if (at - 1) % VALUE_BYTES == 0 then found = at end
    at = find(values, hash, at + 1, true)
  end
  return found
end

local function add_value(st, values, hash, t)
  local at = last_sight(values, hash)
  if at then
    local seen = read(TIME, values, at + HASH_BYTES)
    if seen == t or seen > t and st.hot ~= NEVER then return values end
    if st.hot ~= NEVER then
      values = sub(values, 1, at - 1) .. sub(values, at + VALUE_BYTES)
    end
  end
  local n = #values / VALUE_BYTES
  local i = upto(TIME, values, 1 + HASH_BYTES, VALUE_BYTES, 0, n, t) * VALUE_BYTES
  return sub(values, 1, i) .. hash .. write(TIME, t) .. sub(values, i + 1)
end

-- How many different hashes are in the list: exact to EXACT, estimated from the
-- EXACT + 1 smallest beyond (Bar-Yossef et al., Counting distinct elements in a data
-- stream, 2002; relative standard error 1 / sqrt(EXACT - 1), 9 %).
local function how_many(hashes)
  if #hashes <= EXACT then return #hashes end
  local sorted = {}
  for i = 1, #hashes do sorted[i] = hashes[i] end
  table.sort(sorted)
  local estimate = EXACT * HASHES / (sorted[EXACT + 1] + 1)
  estimate = estimate + 0.5
  estimate = estimate - estimate % 1
  return estimate > EXACT and estimate or EXACT + 1
end

local function read_values(st, track, section, at, out, k)
  local s, base, windows = st.s, st.starts[section], track.windows
  local n = st.lengths[section]
  local visible = at
  -- A hot entity keeps latest sights alone, so it is read as of its newest event.
  if st.hot ~= NEVER and at < st.newest then visible = st.newest end
  local i = upto(TIME, s, base + HASH_BYTES, VALUE_BYTES, 0, n, visible)
  local seen, hashes, w, last = {}, {}, 1, #windows
  local from = at - windows[1]
  from = from - from % track.grids[1]
  while i > 0 and w <= last do
    local hash, time = read(VALUE, s, base + (i - 1) * VALUE_BYTES)
    while w <= last and time <= from do
      out[k + w], w = how_many(hashes), w + 1
      if w <= last then
        from = at - windows[w]
        from = from - from % track.grids[w]
      end
    end
    if not seen[hash] then seen[hash], hashes[#hashes + 1] = true, hash end
    i = i - 1
  end
  if w <= last then
    local all = how_many(hashes)
    for rest = w, last do out[k + rest] = all end
  end
  return k + last
end

-- Note a hash among the EXACT + 1 smallest, in order.
local function note_smallest(smallest, hash)
  local lo, hi = 1, #smallest + 1
  while lo < hi do
    local mid = lo + hi
    mid = (mid - mid % 2) / 2
    if smallest[mid] < hash then lo = mid + 1 else hi = mid end
  end
  table.insert(smallest, lo, hash)
  smallest[EXACT + 2] = nil
end

local function compact_values(track, st, values)
  local settled, oldest = st.newest - HORIZON, st.newest - HORIZON - track.kept
  if st.hot ~= NEVER then settled = st.newest end
  local seen, smallest, kept = {}, {}, {}
  for i = #values / VALUE_BYTES, 1, -1 do
    local p = 1 + (i - 1) * VALUE_BYTES
    local hash, time = read(VALUE, values, p)
    if time <= oldest then break end
    if time > settled then
      kept[#kept + 1] = sub(values, p, p + VALUE_BYTES - 1)
    elseif not seen[hash] then
      seen[hash] = true
      if #smallest <= EXACT or hash < smallest[EXACT + 1] then
        kept[#kept + 1] = sub(values, p, p + VALUE_BYTES - 1)
        note_smallest(smallest, hash)
      end
    end
  end
  local n = #kept
  for i = 1, n / 2 do kept[i], kept[n + 1 - i] = kept[n + 1 - i], kept[i] end
  return concat(kept)
end
