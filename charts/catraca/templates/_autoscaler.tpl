{{/* What scales a service. minReplicas is left out: it is the operator's, who finds the floor at rest in the annotation. */}}
{{- define "catraca.autoscaler" -}}
{{- $v := .root.Values -}}
{{- $scaling := (get $v .component).autoscaling -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "catraca.name" . }}
  labels:
    {{- include "catraca.labels" . | nindent 4 }}
  annotations:
    catraca.dev/base-floor: {{ $scaling.baseFloor | int | quote }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "catraca.name" . }}
  maxReplicas: {{ $scaling.maxReplicas }}
  metrics:
    {{- if eq $v.autoscaling.source "Cpu" }}
    - type: Resource
      resource:
        name: cpu
        target: { type: Utilization, averageUtilization: {{ $v.autoscaling.cpuUtilization }} }
    {{- else }}
    - type: External
      external:
        metric:
          name: {{ $scaling.metric }}
          {{- with $v.autoscaling.metricLabels }}
          selector:
            matchLabels:
              {{- toYaml . | nindent 14 }}
          {{- end }}
        target: { type: AverageValue, averageValue: {{ $scaling.perReplica | int64 | quote }} }
    {{- end }}
  behavior:
    scaleUp:
      # A crowd does not come by and by.
      stabilizationWindowSeconds: 0
      selectPolicy: Max
      policies:
        - { type: Percent, value: 100, periodSeconds: 15 }
        - { type: Pods, value: 10, periodSeconds: 15 }
    scaleDown:
      stabilizationWindowSeconds: {{ $v.autoscaling.scaleDownStabilizationSeconds }}
{{- end -}}
