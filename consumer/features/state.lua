-- The state of one entity: its bytes, its grids and the raw events of a hot one.
-- docs/features-state.md describes the format and why every read is exact.
--
-- The library is one text: the constants HORIZON, PERIOD, HOT_AFTER, TTL and PAGED, then
-- state.lua, conversion.lua, values.lua, places.lua, reading.lua, compaction.lua,
-- applying.lua and labelling.lua, then the registrations of each entity.
--
-- Times are whole seconds, money is minor units; counts are kept modulo 2^24 and sums
-- modulo 2^48, so that only a window's own total has to fit.

local READ, APPLIED, REPEATED, LATE = 0, 1, 2, 3
local NEVER = 4294967295

-- The head: schema, flags, layout, newest, first, hot since, pending, ids, peaks; then the
-- base totals, the lengths of the further sections, and with the flag UPGRADED the time
-- up to which rows may be merged as another layout asks.
local HEAD, BASE_AT = '<I1I1I2I4I4I4I1I2I2', 22
local HOT, UPGRADED = 1, 2
local TIME, LENGTH = '<I4', '<I2'
-- A row is its time and totals: count and sum, then labelled frauds (where e.labels) and
-- the sum of squares as two limbs of 48 bits (where e.squares).
local TOTALS, COUNT, SQUARES = '<I3I6', '<I3', '<I6I6'
local PEAK, PEAK_BYTES = '<I4I6', 10
local PERIOD_OF, ID_BYTES = '<I3', 11
local OFFSET, RAW, RAW_BYTES = '<I2', '<I2I6', 8
local COUNTS, SUMS = 16777216, 281474976710656
-- Minima are kept as maxima of LOWEST less the amount; amounts are below 2^40.
local LOWEST = 1099511627776
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

-- Stop, before anything is read or written, while the slot of *key* is half moved.
--
-- The keys of an entity beside its string are not declared, so nobody stops a call that
-- finds the string here and the id sets still there: it would count twice. Of two keys
-- that are nowhere, the server that a slot leaves and the one it comes to both refuse
-- to speak; any other finds none.
local function need_whole_slot(key)
  call('EXISTS', key .. ':-', key .. ':=')
end

-- Where the further sections begin and end, and then the rows.
local function locate(e, st, lengths, at)
  local widths, starts = e.widths, {}
  for i = 1, #widths do
    starts[i], at = at, at + lengths[i] * widths[i]
  end
  st.lengths, st.starts, st.rows_at = lengths, starts, at
  st.rows = (#st.s - at + 1) / e.width
end

-- What the bytes of a state mean that was written in the layout of e.
local function divide(e, s)
  local _, flags, _, newest, first, hot, pending, ids, peaks = read(HEAD, s)
  local ids_at, upgraded = e.head + 1, nil
  if flags >= UPGRADED then
    upgraded = read(TIME, s, ids_at)
    ids_at = ids_at + 4
  end
  local at = ids_at + ids * ID_BYTES
  local st = {
    s = s, newest = newest, first = first, hot = hot, pending = pending, ids = ids,
    peaks = peaks, ids_at = ids_at, peaks_at = at, width = e.width, upgraded = upgraded,
  }
  local lengths = {}
  for i = 1, #e.widths do lengths[i] = read(LENGTH, s, e.head - 1 + 2 * (i - #e.widths)) end
  locate(e, st, lengths, at + peaks * PEAK_BYTES)
  return st
end

local function begin(e, t)
  local lengths = {}
  for i = 1, #e.widths do lengths[i] = 0 end
  local st = {
    s = string.rep('\0', e.head), newest = -1, first = t, hot = NEVER, pending = 0, ids = 0,
    peaks = 0, ids_at = e.head + 1, peaks_at = e.head + 1, width = e.width,
  }
  locate(e, st, lengths, e.head + 1)
  return st
end

-- Write the state with these sections in the layout of e into st.s.
local function assemble(e, st, ids, peaks, sections, rows)
  local flags, upgraded, lengths, written = st.hot == NEVER and 0 or HOT, '', {}, {}
  -- Later than that nothing is looked up in pages any more.
  if st.upgraded and st.newest - st.upgraded > PAGES_KEPT then st.upgraded = nil end
  if st.upgraded then flags, upgraded = flags + UPGRADED, write(TIME, st.upgraded) end
  for i = 1, #sections do
    lengths[i] = #sections[i] / e.widths[i]
    written[i] = write(LENGTH, lengths[i])
  end
  st.ids, st.peaks = #ids / ID_BYTES, #peaks / PEAK_BYTES
  st.ids_at = e.head + 1 + #upgraded
  st.peaks_at = st.ids_at + #ids
  st.s = write(HEAD, e.schema, flags, e.layout, st.newest, st.first, st.hot, st.pending, st.ids,
    st.peaks) .. st.base .. concat(written) .. upgraded .. ids .. peaks .. concat(sections) .. rows
  locate(e, st, lengths, st.peaks_at + #peaks)
end

-- Where the totals of everything up to and with the i-th row stand.
local function totals_at(st, i)
  if i == 0 then return BASE_AT end
  return st.rows_at + (i - 1) * st.width + 4
end

local function totals(st, i)
  return read(TOTALS, st.s, totals_at(st, i))
end

local function row_time(st, i)
  return (read(TIME, st.s, st.rows_at + (i - 1) * st.width))
end

-- The totals at p of s with an event or a label more. The square comes in two limbs.
local function raised(e, s, p, events, amount, low, high, frauds)
  local count, sum = read(TOTALS, s, p)
  local out = write(TOTALS, (count + events) % COUNTS, (sum + amount) % SUMS)
  if e.labels then out = out .. write(COUNT, (read(COUNT, s, p + 9) + frauds) % COUNTS) end
  if e.squares then
    local l, h = read(SQUARES, s, p + e.squares)
    l, h = l + low, h + high
    if l >= SUMS then l, h = l - SUMS, h + 1 end
    out = out .. write(SQUARES, l, h % SUMS)
  end
  return out
end

-- The square of an amount below 2^40 as two limbs of 48 bits: doubles are exact to 2^53.
local function square(amount)
  if amount < 16777216 then return amount * amount, 0 end
  local l = amount % 1048576
  local h = (amount - l) / 1048576
  local middle, top = 2 * h * l, h * h
  local m, t = middle % 268435456, top % 256
  local low, high = l * l + m * 1048576, (middle - m) / 268435456 + (top - t) / 256
  if low >= SUMS then low, high = low - SUMS, high + 1 end
  low = low + t * 1099511627776
  if low >= SUMS then low, high = low - SUMS, high + 1 end
  return low, high
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

-- The raw events in (from, to]: count, sum, largest, the same of LOWEST less the amount,
-- limbs of the squares (where e.squares), and the times of the last two.
local function scan(e, st, from, to)
  local r = { count = 0, sum = 0, largest = 0, lowest = 0, low = 0, high = 0 }
  local first = from + 1
  for number = (first - first % PAGE) / PAGE, (to - to % PAGE) / PAGE do
    local page, start = page_of(st, number), number * PAGE
    local n = #page / RAW_BYTES
    local i = upto(OFFSET, page, 1, RAW_BYTES, 0, n, from - start)
    while i < n do
      local offset, amount = read(RAW, page, 1 + i * RAW_BYTES)
      local time = start + offset
      if time > to then break end
      r.count, r.sum, i = r.count + 1, r.sum + amount, i + 1
      if amount > r.largest then r.largest = amount end
      if LOWEST - amount > r.lowest then r.lowest = LOWEST - amount end
      if e.squares then
        local l, h = square(amount)
        l, h = r.low + l, r.high + h
        if l >= SUMS then l, h = l - SUMS, h + 1 end
        r.low, r.high = l, h
      end
      r.before, r.last = r.last, time
    end
  end
  return r
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
