set lock_timeout = '300ms';
set session characteristics as transaction isolation level read committed;
set enable_hashjoin = off;
set enable_seqscan = off;
set jit = off;
