# Makes the database on the first start, then becomes the server. The one user comes in over TCP with the password that was put here.
set -eu
PATH=/usr/lib/postgresql/bin:$PATH
data=/var/lib/postgresql/data
if [ ! -d $data ]; then
  initdb --pgdata=$data.new --no-sync --encoding=UTF8 --locale=C.UTF-8 \
    --username=westward --pwfile=/etc/westward/password --auth-local=reject --auth-host=scram-sha-256
  echo 'host all all all scram-sha-256' >> $data.new/pg_hba.conf
  echo 'CREATE DATABASE westward' | postgres --single -D $data.new postgres
  mv $data.new $data
fi
# nothing here outlives its container, so nothing waits for a disk
exec postgres -D $data -c listen_addresses='*' -c unix_socket_directories= -c fsync=off -c full_page_writes=off
