-- transaction.commit
COMMIT
