-- Labels: a fraud counts from the time of its transaction on.

local LABEL = '<I6>I4I4<I1I4'

-- True when a label is newer than the one that is known: by time, then by name.
local function is_newer(time, name, more, than, than_name, than_more)
  if time ~= than then return time > than end
  if name ~= than_name then return name > than_name end
  return more > than_more
end

local function add_fraud(e, st, i, difference)
  local rows, parts, k = sub(st.s, st.rows_at), {}, 1
  parts[1] = sub(st.s, 1, st.rows_at - 1 + i * e.width)
  for p = 1 + i * e.width, #rows, e.width do
    k = k + 1
    parts[k] = sub(rows, p, p + 3) .. raised(e, rows, p + 4, 0, 0, 0, 0, difference)
  end
  call('SET', st.key, concat(parts), 'KEEPTTL')
end

-- The hash where labels of a transaction of *period* are kept, and the one that is known. Another
-- label of it may have claimed a time on the other side of a border.
local function known_label(key, id, period)
  for _, beside in ipairs({0, -1, 1}) do
    local states = key .. ':l:' .. period + beside
    local old = call('HGET', states, id)
    if old then return states, old end
  end
  return key .. ':l:' .. period, nil
end

-- Argument: 8 bytes of id, event time u32, label time u48 in milliseconds, two u32 (big
-- endian) that order labels of one time, one byte that is 1 for fraud. Returns 1 when the
-- label stands now, 0 when it gave way, -1 when there is nothing to count it in: no state,
-- no event at or after it, or all of that has left the longest window.
local function label(e, key, argument)
  if not read then open() end
  -- A rehearsal before may have left its own.
  call = redis.call
  local t, time, name, more, fraud = read('<I4I6>I4I4<I1', argument, 9)
  local s = call('GET', key)
  if not s then return -1 end
  local w = written_by(e, s)
  if not w.labels then return -1 end
  local st, problem = parse(w, s)
  if problem then return problem end
  need_whole_slot(key)
  st.key = key
  local id, was, from = sub(argument, 1, 8), 0, t
  local states, old = known_label(key, id, (t - t % LABEL_PERIOD) / LABEL_PERIOD)
  if st.unlabelled then old = nil end
  if old then
    local than, than_name, than_more
    than, than_name, than_more, was, from = read(LABEL, old)
    if not is_newer(time, name, more, than, than_name, than_more) then return 0 end
  end
  if from <= st.newest - HORIZON - w.kept then return -1 end
  local i = upto(TIME, st.s, st.rows_at, st.width, 0, st.rows, from - 1)
  if i == st.rows then return -1 end
  -- From the row on that counts the event, or the next one where it was not applied.
  if not old then from = row_time(st, i + 1) end
  if st.unlabelled then forget_labels(st) end
  if fraud ~= was or st.unlabelled then add_fraud(w, st, i, fraud - was) end
  call('HSET', states, id, write(LABEL, time, name, more, fraud, from))
  call('EXPIRE', states, TTL)
  return 1
end
