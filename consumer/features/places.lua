-- The last places of an entity: time, latitude and longitude in 10^-5 degrees.
--
-- Kept are the PLACES newest by time, and of those that are settled (not after
-- newest - H) the latest alone; entries of one second stand in order of arrival.

local PLACE, PLACE_BYTES, PLACES = '<I4i4i4', 12, 16
local NOWHERE = 2147483647

-- Latitude, longitude and time of the latest place at or before a time. An event that is
-- known leaves its own entry out, which is the last of its second and place.
local function previous_place(st, section, at, latitude, longitude, known)
  if latitude == NOWHERE then return nil end
  local s, base, n = st.s, st.starts[section], st.lengths[section]
  local i = upto(TIME, s, base, PLACE_BYTES, 0, n, at)
  local own = known and i or 0
  while own > 0 do
    local time, y, x = read(PLACE, s, base + (own - 1) * PLACE_BYTES)
    if time < at then
      own = 0
    elseif y == latitude and x == longitude then
      break
    else
      own = own - 1
    end
  end
  if own > 0 and own == i then i = i - 1 end
  if i == 0 then return nil end
  local time, y, x = read(PLACE, s, base + (i - 1) * PLACE_BYTES)
  return y, x, time
end

local function add_place(places, t, latitude, longitude, newest)
  local n = #places / PLACE_BYTES
  local i = upto(TIME, places, 1, PLACE_BYTES, 0, n, t) * PLACE_BYTES
  places = sub(places, 1, i) .. write(PLACE, t, latitude, longitude) .. sub(places, i + 1)
  n = n + 1
  local first = n > PLACES and n - PLACES or 0
  local settled = upto(TIME, places, 1, PLACE_BYTES, 0, n, newest - HORIZON)
  if settled - 1 > first then first = settled - 1 end
  return sub(places, 1 + first * PLACE_BYTES)
end
