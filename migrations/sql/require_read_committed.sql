-- A lock protects what is read after it only if each statement sees what was committed before it. A function cannot
-- change the level of the transaction that it runs in, so it refuses to run; the caller repeats the call in a
-- READ COMMITTED transaction.
create function require_read_committed() returns void language plpgsql stable
    as $$
    begin
        if current_setting('transaction_isolation') <> 'read committed' then
            raise exception 'this function needs a READ COMMITTED transaction'
                using errcode = 'inappropriate_isolation_level_for_branch_transaction';
        end if;
    end
    $$;
