-- A ledger of schema version 3, which did not know what a job ran before it was put back: a job in each phase.
BEGIN TRANSACTION;
CREATE TABLE jobs (
	"key" VARCHAR(12) NOT NULL, 
	phase TEXT NOT NULL, 
	state TEXT NOT NULL, 
	site TEXT NOT NULL, 
	job_id BIGINT, 
	slurm_name TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	reason TEXT NOT NULL, 
	exit_code INTEGER, 
	signal INTEGER, 
	attempts INTEGER NOT NULL, 
	restarts INTEGER NOT NULL, 
	cancelled BOOLEAN NOT NULL, 
	cancel_sent BOOLEAN NOT NULL, 
	attempted_at FLOAT, 
	twins_searched_at FLOAT, 
	seen_at FLOAT, 
	missing_since FLOAT, 
	started_at FLOAT, 
	ended_at FLOAT, 
	estimated_start FLOAT, 
	claim TEXT, 
	claimed_at FLOAT, 
	sweep VARCHAR(12), 
	project TEXT, 
	currency TEXT, 
	limit_s FLOAT, 
	money FLOAT, 
	accelerator_hours FLOAT, 
	carbon_kg FLOAT, 
	name TEXT NOT NULL, 
	template TEXT, 
	waits_for JSON NOT NULL, 
	tasks JSON NOT NULL, 
	task_ids JSON NOT NULL, 
	outputs JSON NOT NULL, 
	submission JSON NOT NULL, 
	decision JSON NOT NULL, 
	config JSON, 
	origin VARCHAR(64), 
	PRIMARY KEY ("key")
);
INSERT INTO "jobs" VALUES('aaaaaaaaaaaa','intent','PENDING','west',NULL,'gemm~aaaaaaaaaaaa',1.79549458945775103563e+09,'',NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'login1/4711/123456',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'it''s "mine"
训练','gemm','[]','{}','{}','["result.json"]','{"name": "gemm~aaaaaaaaaaaa", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~aaaaaaaaaaaa", "stdout": "/shared/me/gemm~aaaaaaaaaaaa.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~aaaaaaaaaaaa\ntrue\n"}','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',NULL,NULL);
INSERT INTO "jobs" VALUES('bbbbbbbbbbbb','submitting','PENDING','west',NULL,'gemm~bbbbbbbbbbbb',1.79549458946242308614e+09,'',NULL,NULL,1,0,1,0,1.79549458948620200161e+09,NULL,NULL,NULL,NULL,NULL,NULL,'login1/4711/123456',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'it''s "mine"
训练','gemm','[]','{}','{}','["result.json"]','{"name": "gemm~bbbbbbbbbbbb", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~bbbbbbbbbbbb", "stdout": "/shared/me/gemm~bbbbbbbbbbbb.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~bbbbbbbbbbbb\ntrue\n"}','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',NULL,NULL);
INSERT INTO "jobs" VALUES('cccccccccccc','held','PENDING','west',3,'gemm~cccccccccccc',1.79549458947039890285e+09,'',NULL,NULL,1,0,0,0,1.79549458948959493641e+09,NULL,1.79549458949351406098e+09,NULL,NULL,NULL,NULL,'login1/4711/123456',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'it''s "mine"
训练','gemm','[]','{}','{}','["result.json"]','{"name": "gemm~cccccccccccc", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~cccccccccccc", "stdout": "/shared/me/gemm~cccccccccccc.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~cccccccccccc\ntrue\n"}','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',NULL,NULL);
INSERT INTO "jobs" VALUES('dddddddddddd','released','RUNNING','west',4,'gemm~dddddddddddd',1.79549458947421288488e+09,'',NULL,NULL,2,0,0,0,1.79549458950329804416e+09,NULL,1.79549458951009202004e+09,NULL,1767268800.0,NULL,NULL,'login1/4711/123456',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'it''s "mine"
训练','gemm','["afterok:eeeeeeeeeeee"]','{"RUNNING": 2}','{}','["result.json"]','{"name": "gemm~dddddddddddd", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~dddddddddddd", "stdout": "/shared/me/gemm~dddddddddddd.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~dddddddddddd\ntrue\n"}','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',NULL,NULL);
INSERT INTO "jobs" VALUES('eeeeeeeeeeee','ended','FAILED','west',5,'gemm~eeeeeeeeeeee',1.79549458947812604903e+09,'NonZeroExitCode',3,NULL,1,0,0,0,1.79549458950051808356e+09,NULL,1795494589.5118,NULL,1767268800.0,1767268800.0,NULL,'login1/4711/123456',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'it''s "mine"
训练','gemm','[]','{}','{}','["result.json"]','{"name": "gemm~eeeeeeeeeeee", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~eeeeeeeeeeee", "stdout": "/shared/me/gemm~eeeeeeeeeeee.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~eeeeeeeeeeee\ntrue\n"}','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',NULL,NULL);
INSERT INTO "jobs" VALUES('ffffffffffff','refused','CANCELLED','west',NULL,'gemm~ffffffffffff',1.79549458948214411737e+09,'site ''west'' refuses: Invalid account',NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL,1.79549458951343297958e+09,NULL,'login1/4711/123456',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'it''s "mine"
训练','gemm','[]','{}','{}','["result.json"]','{"name": "gemm~ffffffffffff", "partition": "gpu", "account": "research", "qos": null, "nodes": 2, "ntasks": 4, "ntasks_per_node": 2, "cpus_per_task": 1, "mem_per_node_mib": 1024, "gres": "gpu:h100:4", "walltime_s": 300, "root": "/shared/me", "directory": "/shared/me/gemm~ffffffffffff", "stdout": "/shared/me/gemm~ffffffffffff.out", "environment": {"PATH": "/usr/bin:/bin", "A": "it''s\n\"b\" gr\u00f6\u00dfe"}, "script": "#!/bin/bash\n#SBATCH --job-name=gemm~ffffffffffff\ntrue\n"}','{"policy": "cheapest", "chosen": {"site": "west", "partition": "gpu"}, "overridden": false}',NULL,NULL);
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	since FLOAT NOT NULL, 
	until FLOAT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE origins (
	digest VARCHAR(64) NOT NULL, 
	said JSON NOT NULL, 
	PRIMARY KEY (digest)
);
CREATE TABLE points (
	sweep VARCHAR(12) NOT NULL, 
	number INTEGER NOT NULL, 
	job VARCHAR(12) NOT NULL, 
	task INTEGER, 
	shape INTEGER NOT NULL, 
	label TEXT NOT NULL, 
	overrides JSON NOT NULL, 
	command JSON NOT NULL, 
	env JSON NOT NULL, 
	PRIMARY KEY (sweep, number)
);
CREATE TABLE schema (
	version INTEGER NOT NULL
);
INSERT INTO "schema" VALUES(3);
CREATE TABLE sites (
	name TEXT NOT NULL, 
	answered_at FLOAT, 
	silent_since FLOAT, 
	problem TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "sites" VALUES('west',NULL,NULL,'');
CREATE TABLE sweeps (
	"key" VARCHAR(12) NOT NULL, 
	name TEXT NOT NULL, 
	template TEXT, 
	site TEXT, 
	created_at FLOAT NOT NULL, 
	overrides JSON NOT NULL, 
	shapes JSON NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE INDEX jobs_of_sweep ON jobs (sweep);
CREATE INDEX ix_jobs_created_at ON jobs (created_at);
CREATE INDEX jobs_by_phase ON jobs (phase, site, state);
CREATE INDEX jobs_by_project ON jobs (project, created_at);
CREATE INDEX ix_sweeps_created_at ON sweeps (created_at);
CREATE INDEX jobs_sent_again ON jobs (attempts) WHERE attempts > 1;
COMMIT;
