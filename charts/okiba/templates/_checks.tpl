{{/* What no schema can see: values that exclude or need each other. Each message names the value and what to do. */}}

{{- define "okiba.checks" -}}
{{- if eq .Values.functions.namespace .Release.Namespace -}}
{{- fail (printf "functions.namespace must not be the release's own namespace, got %q: functions would run beside the platform's secrets" .Values.functions.namespace) -}}
{{- end -}}
{{- $own := .Values.credentials.existingSecret -}}
{{- if not (or $own .Values.redis.bundled.enabled .Values.redis.external.url) -}}
{{- fail "redis.bundled.enabled is false: name a Redis in redis.external.url, or in the key redis-url of credentials.existingSecret" -}}
{{- end -}}
{{- if and (contains "+cluster" .Values.redis.external.url) (not .Values.redis.external.brokerUrl) -}}
{{- fail "redis.external.url names a cluster: name a Redis that is none in redis.external.brokerUrl, for Celery cannot use one" -}}
{{- end -}}
{{- if ge (int .Values.gateway.drainSeconds) (int .Values.gateway.terminationGracePeriodSeconds) -}}
{{- fail (printf "gateway.drainSeconds is a part of gateway.terminationGracePeriodSeconds and must be less, got %d of %d" (int .Values.gateway.drainSeconds) (int .Values.gateway.terminationGracePeriodSeconds)) -}}
{{- end -}}
{{- if and .Values.s3.external.endpoint (not $own) (not (and .Values.s3.external.accessKey .Values.s3.external.secretKey)) -}}
{{- fail "s3.external.endpoint needs the store's keys: s3.external.accessKey and s3.external.secretKey, or credentials.existingSecret" -}}
{{- end -}}
{{- if and .Values.ca.bundle .Values.ca.existingConfigMap -}}
{{- fail "ca.bundle and ca.existingConfigMap exclude each other" -}}
{{- end -}}
{{- range .Values.egress.allow -}}
{{- if and (not (contains ":" .)) (include "okiba.holds" (dict "outer" "169.254.0.0/16" "inner" .)) -}}
{{- fail (printf "egress.allow must not name link-local addresses (clouds' metadata), got %q" .) -}}
{{- end -}}
{{- end -}}
{{- end }}
