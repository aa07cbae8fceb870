"""What the queue on Redis Streams does in one step on the server, as Lua.

An entry of the stream is one delivery: a message that comes again is taken out and added anew, at the end. So an
entry's id is also the right to settle it: once it is no longer pending, whoever held it is too late.

Fields of an entry: ``i`` the message's id (else the entry's own), ``b`` its body, ``h`` its headers, ``t`` when it was
enqueued in milliseconds (else the entry's time), ``a`` how many counted deliveries it had.
"""

from typing import Final

__all__ = ["ACK", "BURY", "DISCARD", "ENQUEUE", "REQUEUE", "RETRY", "TAKE"]

_SHARED: Final = """
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function field(fields, name, otherwise)
  for at = 1, #fields, 2 do
    if fields[at] == name then return fields[at + 1] end
  end
  return otherwise
end
local function read(stream, entry)
  local found = redis.call('XRANGE', stream, entry, entry)
  if #found == 0 then return nil end
  local fields = found[1][2]
  local body = field(fields, 'b', nil)
  if not body then -- a foreign producer's: kept, and never taken for one of ours
    return {i = entry, b = cjson.encode(fields), h = '', t = string.match(entry, '^%d+'), a = '0'}
  end
  return {
    i = field(fields, 'i', entry), b = body, h = field(fields, 'h', ''),
    t = field(fields, 't', string.match(entry, '^%d+')), a = field(fields, 'a', '0'),
  }
end
local function add(stream, m)
  return redis.call('XADD', stream, '*', 'i', m.i, 'b', m.b, 'h', m.h, 't', m.t, 'a', m.a)
end
local function postpone(delayed, due, m)
  redis.call('ZADD', delayed, due, cmsgpack.pack({m.i, m.b, m.h, m.t, m.a}))
end
local function settle(stream, group, entry)
  if redis.call('XACK', stream, group, entry) == 0 then return nil end
  local m = read(stream, entry)
  redis.call('XDEL', stream, entry)
  return m
end
"""

#: KEYS stream, delayed, seen. ARGV id, body, headers, delay_ms, window_ms, maxlen. → the id; false when it is full.
ENQUEUE: Final = (
    _SHARED
    + """
local window, most = tonumber(ARGV[5]), tonumber(ARGV[6])
if window > 0 then
  local seen = redis.call('GET', KEYS[3])
  if seen then return seen end
end
if most > 0 and redis.call('XLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2]) >= most then return false end
if window > 0 then redis.call('SET', KEYS[3], ARGV[1], 'PX', window) end
local now, delay = now_ms(), tonumber(ARGV[4])
local m = {i = ARGV[1], b = ARGV[2], h = ARGV[3], t = string.format('%.0f', now), a = '0'}
if delay > 0 then postpone(KEYS[2], now + delay, m) else add(KEYS[1], m) end
return ARGV[1]
"""
)

#: KEYS stream, delayed. ARGV group, consumer, count, visibility_ms, sweep.
#: → entries, the group's last id when there are none, and in how many ms one is due (-1 for no delayed ones).
TAKE: Final = (
    _SHARED
    + """
local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 256)
for _, packed in ipairs(due) do
  local p = cmsgpack.unpack(packed)
  add(KEYS[1], {i = p[1], b = p[2], h = p[3], t = p[4], a = p[5]})
  redis.call('ZREM', KEYS[2], packed)
end
if ARGV[5] == '1' then
  for _, pending in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[4], '-', '+', 256)) do
    local m = settle(KEYS[1], ARGV[1], pending[1])
    if m then
      m.a = string.format('%d', (tonumber(m.a) or 0) + 1)
      add(KEYS[1], m)
    end
  end
end
local got = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
if got and #got > 0 then return {got[1][2], '', 0} end
local last = '0-0'
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if field(group, 'name') == ARGV[1] then last = field(group, 'last-delivered-id') end
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {{}, last, #first > 0 and math.max(1, first[2] - now) or -1}
"""
)

#: KEYS stream. ARGV group, entries... → for each, whether it still was pending.
ACK: Final = """
local settled = {}
for at = 2, #ARGV do
  settled[at - 1] = redis.call('XACK', KEYS[1], ARGV[1], ARGV[at])
  if settled[at - 1] == 1 then redis.call('XDEL', KEYS[1], ARGV[at]) end
end
return settled
"""

#: KEYS stream, delayed. ARGV group, entry, delay_ms, counted. → whether it still was pending.
RETRY: Final = (
    _SHARED
    + """
local m = settle(KEYS[1], ARGV[1], ARGV[2])
if not m then return 0 end
m.a = string.format('%d', (tonumber(m.a) or 0) + ARGV[4])
local delay = tonumber(ARGV[3])
if delay > 0 then postpone(KEYS[2], now_ms() + delay, m) else add(KEYS[1], m) end
return 1
"""
)

#: KEYS stream, dead, dead index. ARGV group, entry, reason, readable. → whether it still was pending.
BURY: Final = (
    _SHARED
    + """
local m = settle(KEYS[1], ARGV[1], ARGV[2])
if not m then return 0 end
local entry = redis.call('XADD', KEYS[2], '*', 'i', m.i, 'b', m.b, 'h', m.h, 't', m.t, 'a',
  string.format('%d', (tonumber(m.a) or 0) + 1), 'r', ARGV[3], 'x', ARGV[4])
redis.call('HSET', KEYS[3], m.i, entry)
return 1
"""
)

#: KEYS stream, dead, dead index. ARGV id. → 1 done, 0 none of that id, -1 its payload cannot be read.
REQUEUE: Final = (
    _SHARED
    + """
local entry = redis.call('HGET', KEYS[3], ARGV[1])
if not entry then return 0 end
local found = redis.call('XRANGE', KEYS[2], entry, entry)
if #found == 0 then
  redis.call('HDEL', KEYS[3], ARGV[1])
  return 0
end
local fields = found[1][2]
if field(fields, 'x') ~= '1' then return -1 end
add(KEYS[1], {
  i = ARGV[1], b = field(fields, 'b'), h = field(fields, 'h'), t = string.format('%.0f', now_ms()), a = '0',
})
redis.call('XDEL', KEYS[2], entry)
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
"""
)

#: KEYS dead, dead index. ARGV id. → whether there was one.
DISCARD: Final = """
local entry = redis.call('HGET', KEYS[2], ARGV[1])
if not entry then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('XDEL', KEYS[1], entry)
"""
