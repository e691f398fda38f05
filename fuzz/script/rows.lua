function f(host) return host:echo("a"), host.wait("b", {1,2}) end
