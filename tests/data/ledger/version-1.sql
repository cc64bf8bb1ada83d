-- A ledger of schema version 1, as Westward 0.1 wrote it: a job in each phase.
BEGIN TRANSACTION;
CREATE TABLE jobs (
	"key" VARCHAR(12) NOT NULL, 
	name TEXT NOT NULL, 
	template TEXT, 
	site TEXT NOT NULL, 
	phase TEXT NOT NULL, 
	state TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	job_id INTEGER, 
	exit_code INTEGER, 
	signal INTEGER, 
	attempts INTEGER NOT NULL, 
	cancelled BOOLEAN NOT NULL, 
	submission JSON NOT NULL, 
	outputs JSON NOT NULL, 
	decision JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	attempted_at FLOAT, 
	twins_searched_at FLOAT, 
	seen_at FLOAT, 
	started_at FLOAT, 
	ended_at FLOAT, 
	claim TEXT, 
	PRIMARY KEY ("key")
);
INSERT INTO "jobs" VALUES('aaaaaaaaaaaa','it''s "mine"
训练','gemm','west','intent','PENDING','',NULL,NULL,NULL,0,0,'{"name": "gemm~aaaaaaaaaaaa", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~aaaaaaaaaaaa", "stdout": "/shared/me/gemm~aaaaaaaaaaaa.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~aaaaaaaaaaaa\ntrue\n"}','["result.json"]','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',1.79549458945775103563e+09,NULL,NULL,NULL,NULL,NULL,'login1/4711/123456');
INSERT INTO "jobs" VALUES('bbbbbbbbbbbb','it''s "mine"
训练','gemm','west','submitting','PENDING','',NULL,NULL,NULL,1,1,'{"name": "gemm~bbbbbbbbbbbb", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~bbbbbbbbbbbb", "stdout": "/shared/me/gemm~bbbbbbbbbbbb.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~bbbbbbbbbbbb\ntrue\n"}','["result.json"]','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',1.79549458946242308614e+09,1.79549458948620200161e+09,NULL,NULL,NULL,NULL,'login1/4711/123456');
INSERT INTO "jobs" VALUES('cccccccccccc','it''s "mine"
训练','gemm','west','held','PENDING','',3,NULL,NULL,1,0,'{"name": "gemm~cccccccccccc", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~cccccccccccc", "stdout": "/shared/me/gemm~cccccccccccc.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~cccccccccccc\ntrue\n"}','["result.json"]','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',1.79549458947039890285e+09,1.79549458948959493641e+09,NULL,1.79549458949351406098e+09,NULL,NULL,'login1/4711/123456');
INSERT INTO "jobs" VALUES('dddddddddddd','it''s "mine"
训练','gemm','west','released','RUNNING','',4,NULL,NULL,2,0,'{"name": "gemm~dddddddddddd", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~dddddddddddd", "stdout": "/shared/me/gemm~dddddddddddd.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~dddddddddddd\ntrue\n"}','["result.json"]','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',1.79549458947421288488e+09,1.79549458950329804416e+09,NULL,1.79549458951009202004e+09,1767268800.0,NULL,'login1/4711/123456');
INSERT INTO "jobs" VALUES('eeeeeeeeeeee','it''s "mine"
训练','gemm','west','ended','FAILED','NonZeroExitCode',5,3,NULL,1,0,'{"name": "gemm~eeeeeeeeeeee", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~eeeeeeeeeeee", "stdout": "/shared/me/gemm~eeeeeeeeeeee.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~eeeeeeeeeeee\ntrue\n"}','["result.json"]','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',1.79549458947812604903e+09,1.79549458950051808356e+09,NULL,1795494589.5118,1767268800.0,1767268800.0,'login1/4711/123456');
INSERT INTO "jobs" VALUES('ffffffffffff','it''s "mine"
训练','gemm','west','refused','CANCELLED','site ''west'' refuses: Invalid account',NULL,NULL,NULL,0,0,'{"name": "gemm~ffffffffffff", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~ffffffffffff", "stdout": "/shared/me/gemm~ffffffffffff.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~ffffffffffff\ntrue\n"}','["result.json"]','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',1.79549458948214411737e+09,NULL,NULL,NULL,NULL,1.79549458951343297958e+09,'login1/4711/123456');
CREATE TABLE schema (
	version INTEGER NOT NULL
);
INSERT INTO "schema" VALUES(1);
CREATE INDEX ix_jobs_site ON jobs (site);
CREATE INDEX ix_jobs_phase ON jobs (phase);
COMMIT;
