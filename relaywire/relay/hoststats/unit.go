package hoststats

// Unit returns the unit of a stat, or "" for one that is not of this package.
func Unit(stat string) string { return units[stat] }

var units = map[string]string{
	"cpu_used": "percent", "cpu_user": "percent", "cpu_system": "percent", "cpu_iowait": "percent", "cpu_steal": "percent",
	"ram_used": "percent", "ram_free": "bytes", "ram_total": "bytes",
	"swap_used": "percent", "swap_free": "bytes", "swap_total": "bytes",
	"load_1": "processes", "load_5": "processes", "load_15": "processes",
	"disk_used": "percent", "disk_free": "bytes", "disk_total": "bytes",
	"io_read_bytes": "bytes/s", "io_write_bytes": "bytes/s", "io_reads": "1/s", "io_writes": "1/s", "io_busy": "percent",
	"net_in": "bytes/s", "net_out": "bytes/s",
}
