-- SPDX-License-Identifier: Apache-2.0
-- Functions that give the recipient another domain and leave the name that the client chose.

local function moved(address, domain)
  return address:match("^(.*)@") .. "@" .. domain
end

local function try(mail, domain)
  pcall(mail.set_recipient, mail, moved(mail.recipient, domain))
end

function to_ours(mail)
  try(mail, "ours.test")
end

function to_alias(mail)
  try(mail, "alias.test")
  return "accept"
end

-- Works only with any_domain.
function away(mail)
  try(mail, "away.test")
end

function by_sender(mail)
  if mail.sender_domain == "a.test" then
    try(mail, "ours.test")
    return "accept"
  end
end

local function try_all(mail, domain)
  local list = {}
  for i, address in ipairs(mail.recipients) do
    list[i] = moved(address, domain)
  end
  pcall(mail.set_recipients, mail, list)
end

function content_to_ours(mail)
  try_all(mail, "ours.test")
end

function content_away(mail)
  try_all(mail, "away.test")
end
