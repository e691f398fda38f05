local c = coroutine.wrap(function(a) while true do a = coroutine.yield(a) end end)
function f() return c(1), c(2), table.concat({1,2},",") end
