-- State of a former layout, read as one of the layout in use: what both keep stays, what
-- is new begins empty and what is dropped goes. docs/features-state.md says which values
-- that leaves exact.

local LABEL_PERIOD = 604800
local NO_FRAUDS, NO_SQUARES = '\0\0\0', '\0\0\0\0\0\0\0\0\0\0\0\0'

local function section_of(from, kind)
  for i = 1, #from.kinds do
    if from.kinds[i] == kind then return i end
  end
end

-- The totals at p of s, which is in the layout *from*.
local function totals_as(e, from, s, p)
  local out = sub(s, p, p + 8)
  if e.labels then out = out .. (from.labels and sub(s, p + 9, p + 11) or NO_FRAUDS) end
  if e.squares then
    local at = from.squares and p + from.squares
    out = out .. (at and sub(s, at, at + 11) or NO_SQUARES)
  end
  return out
end

local function rows_as(e, from, st)
  if e.width == from.width then return sub(st.s, st.rows_at) end
  local rows, k = {}, 0
  for p = st.rows_at, #st.s, from.width do
    rows[k + 1], rows[k + 2], k = sub(st.s, p, p + 3), totals_as(e, from, st.s, p + 4), k + 2
  end
  return concat(rows)
end

-- Rows of a hot entity up to its newest may be merged more coarsely than e expects, so it
-- is noted as upgraded then; those of a cold one are kept as every reader needs them.
local function convert(e, from, s)
  local st, sections, peaks = divide(from, s), {}, ''
  for i = 1, #e.kinds do
    local j = section_of(from, e.kinds[i])
    sections[i] = ''
    if j then
      local start = st.starts[j]
      sections[i] = sub(s, start, start + st.lengths[j] * from.widths[j] - 1)
    end
  end
  if e.maxima and from.maxima then
    peaks = sub(s, st.peaks_at, st.peaks_at + st.peaks * PEAK_BYTES - 1)
  end
  local ids, rows = sub(s, st.ids_at, st.peaks_at - 1), rows_as(e, from, st)
  st.base, st.width = totals_as(e, from, s, BASE_AT), e.width
  if st.hot ~= NEVER then st.upgraded = st.newest end
  assemble(e, st, ids, peaks, sections, rows)
  -- Labels of a time before this one may be remembered though nobody counted since.
  st.unlabelled = e.labels and not from.labels
  return st
end

-- Forget every label that a transaction within the lifetime of a state may have.
local function forget_labels(st)
  local from = st.newest > TTL and st.newest - TTL or 0
  for at = from - from % LABEL_PERIOD, st.newest, LABEL_PERIOD do
    call('UNLINK', st.key .. ':l:' .. at / LABEL_PERIOD)
  end
end

-- The state in s as one of e; of a layout that nobody described it is refused.
local function parse(e, s)
  local schema, _, layout = read('<I1I1I2', s)
  if layout == e.layout and schema == e.schema then return divide(e, s) end
  local from = e.formers[layout]
  if from and schema == from.schema then return convert(e, from, s) end
  return nil, redis.error_reply('FRAUDSTREAM_STATE schema ' .. schema .. ' layout ' .. layout ..
    ', expected schema ' .. e.schema .. ' layout ' .. e.layout)
end

-- The layout to write: while workers of the former one are alive theirs, unless they are
-- gone as another worker knows, which wrote this state.
local function written_by(e, s)
  if not e.active or s and read('<I2', s, 3) == e.layout then return e end
  return e.active
end
