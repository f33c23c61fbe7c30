-- transaction.rollback
ROLLBACK
