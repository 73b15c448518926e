-- Ends a call whose caller waits no longer than these seconds, and undoes what it did. A call may have waited for a lock.
create function give_up_after(seconds double precision) returns void language plpgsql stable
    as $$
    begin
        if clock_timestamp() > statement_timestamp() + make_interval(secs => seconds) then
            raise exception 'the caller has given up' using errcode = 'query_canceled';
        end if;
    end
    $$;
