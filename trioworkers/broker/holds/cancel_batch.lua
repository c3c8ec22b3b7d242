-- A batch takes no more members, and says so; those that wait are dropped where they are fetched. Those that run are dealt with by whoever asked for it.
-- own  what all keys of ours begin with; id: of the batch
-- result  1, or 0 if there is no such batch, or it is over
return cancel_batch(own, id)
