-- SPDX-License-Identifier: Apache-2.0
-- Functions that say what becomes of it and where it goes. None names what gives recipients, so none can.

function accepts(mail)
  return "accept"
end

function by_helo(mail)
  if mail.helo == "x.test" then
    return "accept"
  elseif mail.helo == "y.test" then
    return "reject"
  end
end

-- Of the step's transports those it may choose, whichever that is.
function routes(mail)
  local _ = pcall(mail.route, mail, "internet") or pcall(mail.route, mail, "elsewhere")
end
content_routes = routes

function content_delivers(mail)
  return "deliver"
end

-- A name that is put together does not help.
function hidden(mail)
  pcall(mail["set_" .. "recip" .. "ient"], mail, mail.recipient:match("^(.*)@") .. "@ours.test")
end

-- Logins: nobody is in but by a backend's yes.
function takes_all(mail)
  return "accept"
end

function asks_mail(mail)
  if mail:login_by("mail") ~= "no" then
    return "accept"
  end
end
