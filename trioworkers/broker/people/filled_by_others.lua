-- Whether workers leave a list of a dead one alone, since it was emptied and then filled again. Reads only.
-- drained  of the dead worker; list: the name of its list
-- result  1, or 0
return is_watched(drained, list, '1') and 1 or 0
