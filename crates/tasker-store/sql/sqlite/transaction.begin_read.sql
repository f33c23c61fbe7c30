-- transaction.begin_read
BEGIN
