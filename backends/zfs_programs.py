"""The channel programs of the ZFS backend (zfs-program(8)).

A program runs alone: nothing happens between its steps, and a power cut undoes all of it or none.
It is no transaction, however: a step that fails leaves those before it done, and so does a signal
that ends the command. So each looks at everything first, acts then, and can be run again.
"""

from collections.abc import Sequence
from typing import Any

TEMPORARY = "cowshed-"
"""How the names of our snapshots begin that are no layer's; a layer's is its id."""

_OURS = f"""
local function short(snapshot) return (snapshot:match("@(.*)$")) end
local function is_ours(snapshot)
    local name = short(snapshot)
    return (#name == 64 and not name:match("[^0-9a-f]")) or name:match("^{TEMPORARY}") ~= nil
end
"""

REMOVE = (
    _OURS
    + """
-- Destroys a volume, whatever was cloned from it and whatever it was cloned from.
--   argv: the dataset, the store's dataset, "force" or "", "act" or "look"
--   returns: state = "absent", "free" (when looking), "removed" (with the foreign snapshots that
--   were destroyed), "refused" (with what is in the way), "busy" or "failed" (with errno)
local argv = (...)["argv"]
local target, home, force, act = argv[1], argv[2], argv[3] == "force", argv[4] == "act"

if not zfs.exists(target) then return {state = "absent"} end

local way = {children = {}, clones = {}, foreign = {}, held = {}}
local blocked = false
local function block(kind, name)
    local names = way[kind]
    names[#names + 1] = name
    blocked = true
end

for child in zfs.list.children(target) do block("children", child) end

local snapshots, last = {}, nil
for name in zfs.list.snapshots(target) do
    snapshots[#snapshots + 1] = {name = name, txg = zfs.get_prop(name, "createtxg")}
end
table.sort(snapshots, function(a, b) return a.txg < b.txg end)
for _, snapshot in ipairs(snapshots) do
    for clone in zfs.list.clones(snapshot.name) do
        if clone:sub(1, #home + 1) == home .. "/" then
            -- A commit is under way, or somebody promoted: it is that layer's own snapshot.
            local owner = clone:match("[^/]*$") == short(snapshot.name)
            snapshot.kept = snapshot.kept or owner
            if owner or not snapshot.heir then snapshot.heir = clone end
        else
            snapshot.stranger = clone
        end
        last = snapshot
    end
end

-- What has clones goes to the heir of the last such snapshot, with all that is older.
local heir = last and last.heir
if last and not heir then block("clones", last.stranger) end
local destroyed, moved = {}, {}
for _, snapshot in ipairs(snapshots) do
    if is_ours(snapshot.name) and last and snapshot.txg <= last.txg then
        if not snapshot.kept then moved[#moved + 1] = short(snapshot.name) end
    elseif snapshot.stranger then
        block("clones", snapshot.stranger)
    elseif zfs.get_prop(snapshot.name, "userrefs") > 0 then
        block("held", snapshot.name)
    elseif is_ours(snapshot.name) then
        destroyed[#destroyed + 1] = snapshot.name
    elseif force then
        destroyed[#destroyed + 1] = snapshot.name
    else
        block("foreign", snapshot.name)
    end
end
if not blocked and act then
    for _, name in ipairs(destroyed) do
        if zfs.check.destroy(name) ~= 0 then return {state = "busy"} end
    end
    if heir and zfs.check.promote(heir) == 16 then return {state = "busy"} end
end
if blocked then
    way.state = "refused"
    return way
end
if not act then return {state = "free"} end

local function failed(what, errno) return {state = "failed", what = what, errno = errno} end

local foreign = {}
for _, name in ipairs(destroyed) do
    local errno = zfs.sync.destroy(name)
    if errno ~= 0 then return failed("destroy " .. name, errno) end
    if not is_ours(name) then foreign[#foreign + 1] = name end
end
local origin = zfs.get_prop(target, "origin")
if heir then
    local errno, conflicts = zfs.sync.promote(heir)
    if errno ~= 0 then
        return {state = "failed", what = "promote " .. heir, errno = errno, conflicts = conflicts}
    end
end
-- Without snapshots, only a mount is in the way of the rest.
local errno = zfs.check.destroy(target)
if errno ~= 0 then
    if heir then
        local back = zfs.sync.promote(target)
        if back ~= 0 then return failed("promote " .. target, back) end
    end
    if errno == 16 then return {state = "busy"} end
    return failed("destroy " .. target, errno)
end
for _, name in ipairs(moved) do
    zfs.sync.destroy{heir .. "@" .. name, defer = true}
end
errno = zfs.sync.destroy(target)
if errno ~= 0 then return failed("destroy " .. target, errno) end
-- A commit that was cut short has left the snapshot that the target was cloned from.
if origin and not heir and is_ours(origin) and zfs.exists(origin) then
    if origin:match("([^/]*)@") ~= short(origin) then zfs.sync.destroy{origin, defer = true} end
end
return {state = "removed", destroyed = foreign}
"""
)

DESCENT = """
-- The snapshots that trees descend from.
--   argv: the trees, each a snapshot, or a clone that nobody has written to
--   returns: for each tree a list of {snapshot, createtxg, creation in seconds}, first the one that
--   it is, then the nearest, as far as clones go
local function line(at)
    local found = {}
    if not at:find("@") then at = zfs.get_prop(at, "origin") end
    while at do
        found[#found + 1] = {at, zfs.get_prop(at, "createtxg"), zfs.get_prop(at, "creation")}
        at = zfs.get_prop(at:match("^(.*)@"), "origin")
    end
    return found
end
local lines = {}
for number, tree in ipairs((...)["argv"]) do lines[number] = line(tree) end
return lines
"""


def is_ours(snapshot: str) -> bool:
    """Whether a snapshot of that short name is of our making."""
    is_id = len(snapshot) == 64 and not set(snapshot) - set("0123456789abcdef")
    return is_id or snapshot.startswith(TEMPORARY)


def listed(table: Any) -> Sequence[Any]:
    """A Lua list as it comes back from `program`: a dict from "1" on, or nothing at all."""
    return [table[str(number)] for number in range(1, len(table) + 1)] if table else []
