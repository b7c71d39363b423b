"""Hostile input of many kinds: whatever it is, it is taken or it ends in one clean error, soon and in little memory."""
