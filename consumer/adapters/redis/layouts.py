"""
Which layouts of entity state there are, which is written, and who is alive to read it.

One hash, ``fraudstream:layouts``, on the server of the features:

    layout:<entity>:<number>  the description of a layout, see ``Layout.describe``
    stands:<entity>:<number>  generation in which it became the written one (0: never),
                              when a worker had it last (s), how long its states live (s)
    active:<entity>           the number of the layout that is written
    generation                how many times that changed
    worker:<id>               until when the worker counts as alive (s), then of each entity
                              entity=number/active, the active one being what it writes

A worker attends before its first record and then every few seconds with a chunk's own
calls. Its layout becomes the active one in the moment when no living worker has another.
A layout that was active before comes back under another number, so that whoever knew it
then does not take state of the new one for the old.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from consumer.adapters.redis.cluster import Call, Servers
from consumer.clock import Clock
from consumer.errors import Misconfigured, Problem
from consumer.features.layout import Layout, Standing, Standings, read_layout
from consumer.features.library import lifetime_s
from consumer.features.plan import Plan

KEY = "fraudstream:layouts"
# How long a worker counts as alive after its last word, and how often it gives one.
PRESENT_S = 180
_BEAT_S = 10
_UNKNOWN = -1

_SOURCE = """
local KEPT = 86400

-- Arguments: the worker, for how many seconds it is alive now (0: not any more), 1 to get
-- the whole registry; then of each entity its name, the number that its layout would
-- have, the description of that, and the lifetime of a state in seconds.
-- Returns a line entity=number/active for each of them, which ends in /waits while another
-- worker writes what was active before, and entity=/active for each entity that other
-- workers alone have; then the registry, field and value by turns.
-- Who gets the whole registry is taken at his word to write what is active from then on.
local function attend(keys, args)
  local registry, worker, present = keys[1], args[1], tonumber(args[2])
  local call, match = redis.call, string.match
  if present == 0 then
    call('HDEL', registry, 'worker:' .. worker)
    return {}
  end
  local now, known, gone = tonumber(call('TIME')[1]), {}, {}
  local function put(field, value)
    known[field] = tostring(value)
    call('HSET', registry, field, value)
  end
  local flat = call('HGETALL', registry)
  for i = 1, #flat, 2 do known[flat[i]] = flat[i + 1] end

  local held, writes = {}, {}
  for field, value in pairs(known) do
    local id = match(field, '^worker:(.+)$')
    if id and id ~= worker then
      if tonumber(match(value, '^%d+')) <= now then
        gone[#gone + 1] = field
      else
        for entity, number, active in string.gmatch(value, '([^ =]+)=(%d+)/(%d+)') do
          held[entity], writes[entity] = held[entity] or {}, writes[entity] or {}
          held[entity][number], writes[entity][active] = true, true
        end
      end
    end
    local entity, number = match(field, '^stands:(.+):(%d+)$')
    if entity then
      local _, seen, lifetime = match(value, '^(%d+) (%d+) (%d+)$')
      if seen + lifetime + KEPT < now then
        gone[#gone + 1], gone[#gone + 2] = field, 'layout:' .. entity .. ':' .. number
        if known['active:' .. entity] == number then gone[#gone + 1] = 'active:' .. entity end
      end
    end
  end
  for _, field in ipairs(gone) do
    known[field] = nil
    call('HDEL', registry, field)
  end

  local function stands(entity, number)
    local value = known['stands:' .. entity .. ':' .. number]
    return match(value or '0 0 0', '^(%d+) (%d+) (%d+)$')
  end
  local function note(entity, number, lifetime, generation)
    local was, _, than = stands(entity, number)
    if tonumber(than) > lifetime then lifetime = tonumber(than) end
    local value = (generation or was) .. ' ' .. now .. ' ' .. lifetime
    put('stands:' .. entity .. ':' .. number, value)
  end
  -- The number of a layout: the active one, one that was never active, or a new one.
  local function number_of(entity, first, description)
    local active = known['active:' .. entity]
    if active and known['layout:' .. entity .. ':' .. active] == description then return active end
    local number = tonumber(first)
    while true do
      local field = 'layout:' .. entity .. ':' .. number
      if not known[field] then
        put(field, description)
        break
      end
      if known[field] == description and stands(entity, number) == '0' then break end
      number = (number + 1) % 65536
    end
    return tostring(number)
  end

  local lines, mine, own, longest = {}, {}, {}, 0
  for i = 4, #args, 4 do
    local entity, lifetime = args[i], tonumber(args[i + 3])
    local number = number_of(entity, args[i + 1], args[i + 2])
    local active, alone = known['active:' .. entity], true
    for other in pairs(held[entity] or {}) do alone = alone and other == number end
    note(entity, number, lifetime)
    if active ~= number and (alone or not active) then
      put('generation', (known.generation or 0) + 1)
      note(entity, number, lifetime, known.generation)
      put('active:' .. entity, number)
      active = number
    end
    note(entity, active, lifetime)
    local line, waits = entity .. '=' .. number .. '/' .. active, ''
    for other in pairs(writes[entity] or {}) do
      if other ~= active then waits = '/waits' end
    end
    lines[#lines + 1], mine[#mine + 1], own[entity] = line .. waits, line, true
    if lifetime > longest then longest = lifetime end
  end
  local foreign = {}
  for entity in pairs(held) do
    local active = known['active:' .. entity]
    if active and not own[entity] then foreign[#foreign + 1] = entity .. '=/' .. active end
  end
  table.sort(foreign)
  for _, line in ipairs(foreign) do lines[#lines + 1] = line end
  local told, field = table.concat(mine, ' '), 'worker:' .. worker
  if args[3] ~= '1' then
    told = known[field] and match(known[field], '^%d+ (.*)$')
    -- Taken for dead in between, or from an emptied server: it has to attend anew.
    if not told then return { { 'unknown' }, {} } end
  end
  put(field, now + present .. ' ' .. told)
  for field, value in pairs(known) do
    local lifetime = match(field, '^stands:') and tonumber(match(value, '%d+$')) or 0
    if lifetime > longest then longest = lifetime end
  end
  call('EXPIRE', registry, longest + 2 * KEPT)
  return { lines, args[3] == '1' and call('HGETALL', registry) or {} }
end
"""
_NAME = f"fraudstream_layouts_{hashlib.sha256(_SOURCE.encode()).hexdigest()[:8]}"
TEXT = f"#!lua name={_NAME}\n{_SOURCE}\nredis.register_function('{_NAME}', attend)\n"


@dataclass(frozen=True, slots=True)
class _Line:
    """An entity: the number of our layout, empty where we have none, and the active one."""

    entity: str
    number: str
    active: str
    waits: bool = False

    @classmethod
    def read(cls, text: str) -> "_Line":
        entity, _, numbers = text.partition("=")
        number, active, *waits = numbers.split("/")
        return cls(entity, number, active, bool(waits))


class LayoutRegistry:
    """
    The registry as a store with *plan* and an id horizon of *horizon_s* sees it.

    Methods raise redis.RedisError as it comes, and Misconfigured for a layout that other
    workers write and this version or plan cannot.
    """

    def __init__(self, servers: Servers, plan: Plan, horizon_s: int, clock: Clock) -> None:
        self._servers = servers
        self._horizon_s = horizon_s
        self._clock = clock
        self._layouts = {each.name: Layout.of(each, horizon_s) for each in plan.entities}
        self._lifetime_s = lifetime_s(plan, horizon_s)
        self._worker = uuid4().hex
        self._lines: list[str] = []
        self._told_s = 0.0
        self._present = False

    @property
    def attending(self) -> bool:
        """Whether this store surely counts as alive."""
        return self._present and self._clock.monotonic_s() - self._told_s < PRESENT_S / 2

    @property
    def present(self) -> bool:
        """Whether this store ever counted as alive."""
        return self._present

    def look(self) -> tuple[Standings, bool]:
        """Return what a store that only reads can read, and whether another layout is written."""
        found = self._servers.command(KEY, "HGETALL", KEY)
        fields = _fields(found)
        lines = [
            _Line(entity, str(self._number(fields, entity)), fields.get(f"active:{entity}", ""))
            for entity in self._layouts
        ]
        own = {line.entity: Standing(*self._formers(fields, line)) for line in lines}
        return Standings(own), any(line.active not in ("", line.number) for line in lines)

    def attend(self) -> Standings:
        """Count as alive from now on, and return what is to be written and read."""
        now_s = self._clock.monotonic_s()
        lines, registry = self._servers.command(KEY, *self._words(whole=True))
        fields = _fields(registry)
        self._lines, self._told_s, self._present = [_text(line) for line in lines], now_s, True
        read = [_Line.read(line) for line in self._lines]
        try:
            own = {line.entity: self._standing(fields, line) for line in read if line.number}
        except Misconfigured:
            self.leave()
            raise
        others = dict(self._others(fields, [line for line in read if not line.number]))
        foreign = [line for line in read if line.number != line.active]
        lifetimes = [int(fields[f"stands:{e.entity}:{e.active}"].split()[2]) for e in foreign]
        settled = not any(line.waits for line in read)
        return Standings(own, others, max(lifetimes, default=0), settled)

    def beat(self) -> Call | None:
        """Return the call that says we are alive, when it is time to say so."""
        now_s = self._clock.monotonic_s()
        if not self._present or now_s - self._told_s < _BEAT_S:
            return None
        return Call(KEY, self._words(whole=False))

    def heard(self, answer: Any) -> bool:
        """Return whether the *answer* to a beat says that all stands as before."""
        if isinstance(answer, Exception):
            # Without its function or its server the next call tries again, or attends anew.
            return "Function not found" not in str(answer)
        self._told_s = self._clock.monotonic_s()
        return [_text(line) for line in answer[0]] == self._lines

    def leave(self) -> None:
        """Count as alive no more."""
        if self._present:
            self._present = False
            self._servers.command(KEY, "FCALL", _NAME, 1, KEY, self._worker, 0)

    def _words(self, *, whole: bool) -> tuple[str | bytes | int, ...]:
        words: list[str | int] = ["FCALL", _NAME, 1, KEY, self._worker, PRESENT_S, int(whole)]
        for entity, layout in self._layouts.items():
            words += [entity, layout.digest, layout.describe(), self._lifetime_s]
        return tuple(words)

    def _standing(self, fields: Mapping[str, str], line: _Line) -> Standing:
        number, formers = self._formers(fields, line)
        if line.active == line.number:
            return Standing(number, formers)
        written = int(line.active)
        layout = formers.get(written)
        if layout is None or layout.key != self._layouts[line.entity].key:
            raise Misconfigured([self._problem(fields, line)])
        return Standing(number, formers, written)

    def _problem(self, fields: Mapping[str, str], line: _Line) -> Problem:
        """Say why what living workers write cannot be written here."""
        known = read_layout(fields.get(f"layout:{line.entity}:{line.active}", ""))
        expected = "a layout of this version; upgrade this process"
        found = f"{line.entity} in the unknown layout {line.active}"
        if known is not None and known.horizon_s != self._horizon_s:
            found = f"{line.entity} with an id horizon of {known.horizon_s} s"
            expected = f"{self._horizon_s} s; end the workers with the other one first"
        elif known is not None:
            found = f"{line.entity} keyed by {known.key}"
            expected = f"another name for an entity keyed by {self._layouts[line.entity].key}"
        return Problem("redis", "feature state", f"{found}, as living workers write it", expected)

    def _formers(self, fields: Mapping[str, str], line: _Line) -> tuple[int, dict[int, Layout]]:
        """Return our number and the layouts that were ever active, ours left out."""
        start, formers = f"stands:{line.entity}:", {}
        for field, value in sorted(fields.items()):
            number = field.removeprefix(start)
            if field.startswith(start) and number != line.number and value.split()[0] != "0":
                layout = read_layout(fields.get(f"layout:{line.entity}:{number}", ""))
                if layout is not None and layout.horizon_s == self._horizon_s:
                    formers[int(number)] = layout
        return int(line.number or line.active), formers

    def _others(
        self, fields: Mapping[str, str], lines: Sequence[_Line]
    ) -> Iterator[tuple[str, Standing]]:
        """Entities that others alone have, unless they cannot be written here."""
        for line in lines:
            number, formers = self._formers(fields, line)
            if number in formers:
                yield line.entity, Standing(number, formers)

    def _number(self, fields: Mapping[str, str], entity: str) -> int:
        """Return the number of our layout as it is or would be, -1 for one yet to be given."""
        layout, active = self._layouts[entity], fields.get(f"active:{entity}")
        description = layout.describe()
        if active and fields.get(f"layout:{entity}:{active}") == description:
            return int(active)
        known = fields.get(f"layout:{entity}:{layout.digest}")
        never = fields.get(f"stands:{entity}:{layout.digest}", "0").startswith("0")
        return layout.digest if known is None or (known == description and never) else _UNKNOWN


def _fields(found: Any) -> dict[str, str]:
    """Return the fields of a hash, which comes as a map or as a flat list."""
    pairs = (
        found.items() if isinstance(found, Mapping) else zip(found[::2], found[1::2], strict=True)
    )
    return {_text(field): _text(value) for field, value in pairs}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
