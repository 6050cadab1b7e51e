module github.com/nanopack/pulse/tools/influxd

go 1.21

require github.com/influxdata/influxdb v1.8.10
